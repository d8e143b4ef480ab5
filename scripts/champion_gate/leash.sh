#!/usr/bin/env bash
# Runs a command no longer than a process lives: leash.sh PROCESS [AFTER...] -- COMMAND...
# AFTER is a command for the end, however it comes. A process that is killed cannot clean up after itself; this can.
set -euo pipefail

process=$1
shift
after=()
while [[ $1 != -- ]]; do
  after+=("$1")
  shift
done
shift

exec 3<&0 # what runs in the background gets no stdin but by another number
"$@" <&3 3<&- &
tail --pid="$process" --sleep-interval=0.5 -f /dev/null </dev/null >/dev/null 2>&1 3<&- &
exec </dev/null 3<&-
code=0
wait -n || code=$?
exec 2>/dev/null
kill -KILL %1 %2 || true
((${#after[@]} == 0)) || "${after[@]}" >/dev/null || true
exit "$code"
