#!/usr/bin/env bash
# Runs a program where it sees no other process, no network, and no file but those it is shown: with util-linux alone.
#
#   namespaces.sh ROOT SIZE [SOURCE TARGET]... -- [NAME=VALUE]... PROGRAM [ARGUMENT]...
#
# ROOT is an empty folder to mount on. SIZE is what the program's /tmp and /dev/shm may hold, in bytes, each. A SOURCE is
# shown at its TARGET, read-only. The program has the given environment and no other, the user 65534, and no way to become
# another one. Started by root, or by anybody to whom user namespaces are open.
set -euo pipefail
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin

if [[ $1 != --inside ]]; then
  who=root
  user=()
  if ((EUID != 0)); then
    who=somebody
    user=(--user --map-root-user)
  fi
  exec unshare "${user[@]}" --mount --pid --net --ipc --uts --fork --kill-child \
    "$BASH" "${BASH_SOURCE[0]}" --inside "$who" "$@"
fi

# From here on this is the first process of the new namespaces: when it ends, so do all in them.
who=$2 root=$3 size=$4
shift 4

mount -t tmpfs -o mode=755,size=4m tmpfs "$root"
mkdir "$root"/{proc,dev,dev/shm,tmp,outside}
for node in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
  ln -s "/proc/self/${node#*:}" "$root/dev/${node%:*}"
done

# All mounts as the lines of an fstab: one call of mount instead of thirty.
table=$root/fstab folders=() files=()
line() { # line SOURCE TARGET TYPE OPTIONS
  local field fields=()
  for field in "$1" "$root$2"; do
    field=${field//\\/\\134} field=${field// /\\040} field=${field//$'\t'/\\011}
    fields+=("${field//$'\n'/\\012}")
  done
  printf '%s %s %s %s 0 0\n' "${fields[@]}" "$3" "$4" >>"$table"
}
line proc /proc proc nosuid,nodev,noexec
for node in null zero full random urandom; do
  files+=("$root/dev/$node")
  line "/dev/$node" "/dev/$node" none bind
done
for node in /dev/shm /tmp; do
  line tmpfs "$node" tmpfs "mode=1777,nosuid,nodev,size=$size"
done
while [[ $1 != -- ]]; do
  if [[ ! -d $1 ]]; then
    folders+=("$root${2%/*}")
    files+=("$root$2")
  fi
  line "$1" "$2" none bind,ro,nosuid,nodev,X-mount.mkdir
  shift 2
done
shift
mkdir -p "$root" "${folders[@]}"
for node in "${files[@]}"; do
  : >"$node"
done
mount --all --fstab "$table"
rm "$table"

ip link set lo up || true # some libraries talk to themselves
cd "$root"
pivot_root . outside
cd /
umount -l /outside
rmdir /outside
mount -o remount,bind,ro,nosuid,nodev /
cd /tmp

exec 3>&2 2>/dev/null # this shell has no more to say; the program has
if [[ $who == root ]]; then
  setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
    env -i "$@" 2>&3 3>&-
else
  # There is one user in a user namespace. A second one gives it another number, and no rights over the first.
  unshare --user --map-user=65534 --map-group=65534 setpriv --no-new-privs env -i "$@" 2>&3 3>&-
fi
