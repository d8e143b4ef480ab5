"""What every command shares: options that read the action's inputs, errors as sentences, outputs, signals.

An input of an action reaches its script as `CHAMPION_GATE_<NAME>`; an empty string is "not given", a
repeatable input has one value a line, and an option with two names reads both.
"""

from __future__ import annotations

import difflib
import gc
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import click

from champion_gate import github, signals
from champion_gate.errors import (
    EXIT_BAD_INPUT,
    EXIT_INCONCLUSIVE,
    EXIT_OUTSIDE_WORLD,
    EXIT_REFUSED,
    BadInput,
    Cancelled,
    GateError,
)
from champion_gate.text import one_line, utf8

PREFIX = "CHAMPION_GATE_"
_JSON = "champion_gate.json"
# The inputs of all commands: a variable beyond them is a misspelt input. A test holds this against the commands.
INPUTS = frozenset(
    [
        "alias",
        "allow-different-data",
        "allow-source-builds",
        "approved-by",
        "at",
        "baseline-ranking",
        "baseline-score-column",
        "baseline-version",
        "challenger-ranking",
        "challenger-score-column",
        "champion-alias",
        "champion-ranking",
        "champion-score-column",
        "champion-version",
        "command",
        "comment",
        "commit",
        "confidence",
        "data-version",
        "dataset-digest",
        "debug",
        "description",
        "document-column",
        "dry-run",
        "environment",
        "evaluation-data",
        "evaluation-data-version",
        "expect-champion",
        "experiment-name",
        "from-alias",
        "from-version",
        "github-token",
        "hold",
        "isolation",
        "json",
        "json-file",
        "label-column",
        "limit",
        "lock-timeout",
        "logged-model",
        "max-regression",
        "max-verdict-age",
        "metric",
        "min-queries",
        "model-name",
        "model-uri",
        "on-inconclusive",
        "override-reason",
        "owner",
        "policy",
        "previous-alias",
        "promote",
        "purpose",
        "qrels",
        "query-column",
        "reason",
        "redis-url",
        "register-model",
        "registry-timeout",
        "reinstate",
        "release-hold",
        "report-file",
        "run-name",
        "scores",
        "scoring-environment",
        "scoring-memory",
        "scoring-timeout",
        "signing-key",
        "slice-column",
        "steps",
        "tag",
        "team",
        "threshold",
        "threshold-ndcg",
        "timeout",
        "to-alias",
        "to-version",
        "training-data",
        "verify-artifacts",
        "version",
        "working-directory",
    ]
)
# Set by people for the launcher and the tests, not inputs of an action.
_OTHER_VARIABLES = ("CHAMPION_GATE_TEST_",)


@dataclass(frozen=True)
class Annotation:
    """What the workflow run's page shows of a result that is no plain success."""

    level: Literal["error", "warning", "notice"]
    title: str
    message: str


@dataclass(frozen=True)
class Result:
    """What a command came to: outputs, a report as Markdown and as plain text, and the exit code."""

    outputs: Mapping[str, str]
    markdown: str
    text: str
    exit_code: int = 0
    annotation: Annotation | None = None
    json: Any = None
    """What --json prints instead of the outputs."""


class GateOption(click.Option):
    """An option that reads the environment as the actions write it, under each of its names."""

    @property
    def inputs(self) -> list[str]:
        """The names that a workflow gives it, the first one first."""
        return [name.lstrip("-") for name in self.opts if name.startswith("--")]

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Collect every value given, so that two different ones are seen."""
        if self.is_flag or self.multiple:
            super().add_to_parser(parser, ctx)
        else:
            parser.add_option(obj=self, opts=self.opts, dest=self.name, action="append", nargs=self.nargs)

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, Any]:
        """The one value given on the command line, else the environment's; an empty one is none."""
        given = opts.get(self.name or "")
        if isinstance(given, list):
            values = [value for value in given if value.strip()]
            opts = {name: value for name, value in opts.items() if name != self.name}
            if values and self.name:
                opts[self.name] = values if self.multiple else self._only(values, ctx)
        return super().consume_value(ctx, opts)

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """The value of this option's variables: whole, or for a repeatable one its lines."""
        found = [os.environ.get(PREFIX + name.upper().replace("-", "_"), "") for name in self.inputs]
        values = [value.strip() for value in found if value.strip()]
        if not values:
            return None
        if self.multiple:
            return [line.strip() for line in values[0].split("\n") if line.strip()]
        return self._only(values, ctx)

    def _only(self, values: Sequence[str], ctx: click.Context) -> str:
        if len(set(values)) > 1:
            names = " and ".join(self.inputs)
            raise click.UsageError(f"{names}: two different values are given, and it takes one.", ctx)
        return values[0]


class Text(click.ParamType[str]):
    """Any text; bytes that are no UTF-8 are replaced."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """`value` as text that can be sent and stored."""
        return utf8(str(value))


class Number(click.ParamType[float]):
    """A number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as a number; whether it is one that can be asked for is the policy's to say."""
        try:
            return float(value)
        except ValueError:
            self.fail(f"{one_line(str(value), 60)!r} is not a number; write for example 0.6.", param, ctx)


class Seconds(click.ParamType[float]):
    """A finite number of seconds, above zero unless zero has a meaning."""

    name = "seconds"

    def __init__(self, *, or_none: bool = False) -> None:
        self.or_none = or_none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as seconds."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not (seconds > 0 or (self.or_none and seconds == 0)) or seconds > 30 * 24 * 3600:
            least = "from 0 on" if self.or_none else "above 0"
            self.fail(f"{one_line(str(value), 60)!r} is not a number of seconds {least}.", param, ctx)
        return seconds


TEXT = Text()
NUMBER = Number()
SECONDS = Seconds()
SECONDS_OR_NONE = Seconds(or_none=True)


def prints_json() -> bool:
    """Whether stdout is for one JSON object only."""
    return bool(click.get_current_context().meta.get(_JSON))


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """A `click.option` that reads its input's variable; text unless another type is given."""
    if not settings.get("is_flag") and "/" not in "".join(names):
        settings.setdefault("type", TEXT)
    settings.setdefault("show_default", True)
    return click.option(*names, cls=GateOption, **settings)


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in this order in --help."""

    def decorate(function: Any) -> Any:
        for add in reversed(decorators):
            function = add(function)
        return function

    return decorate


class GateCommand(click.Command):
    """A command whose function returns a `Result`, and whose errors are sentences with an exit code."""

    outputs: tuple[str, ...] = ()
    """Names of the step's outputs: each is written, empty where nothing is known."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> Any:
        """Run, report, and exit."""
        signals.take()
        try:
            code = self._code(sys.argv[1:] if args is None else list(args))
            # Nothing moved, unless the outside world failed: then nobody knows.
            stayed = {"changed": "false"} if code in (0, EXIT_REFUSED, EXIT_BAD_INPUT, EXIT_INCONCLUSIVE) else {}
            github.write_missing({name: stayed.get(name, "") for name in self.outputs})
        except Cancelled as cancelled:
            github.log(str(cancelled).capitalize() + ".")
            code = cancelled.exit_code
        except GateError as error:  # the outputs could not be written
            github.annotate("error", "Champion Gate", str(error))
            code = error.exit_code
        sys.exit(code)

    def _code(self, args: list[str]) -> int:
        # Known before the options are read, whose errors it is for.
        debug = "--debug" in args or os.environ.get(PREFIX + "DEBUG", "").strip().lower() in ("1", "true", "yes", "on")
        try:
            _known_variables()
            with self.make_context(f"scripts/run {self.name}", args) as ctx:
                ctx.meta[_JSON] = ctx.params.pop("json", False)
                ctx.params.pop("debug", None)
                return _report(self.invoke(ctx), as_json=ctx.meta[_JSON])
        except click.exceptions.Exit as done:
            return done.exit_code
        except click.ClickException as error:
            return _show_error(_usage(error), debug=debug)
        except GateError as error:
            return _show_error(error, debug=debug)
        except Exception as error:  # the last line of defence: a defect must not look like an answer
            if number := signals.taken():  # some code, such as an import, wraps what is raised in it
                raise Cancelled(number) from error
            return _show_error(_defect(error), debug=debug)


def command(name: str, outputs: Sequence[str] = ()) -> Callable[[Callable[..., Result]], click.Command]:
    """Make a function a command, with the options that every command has, and the names of its outputs."""

    def decorate(function: Callable[..., Result]) -> click.Command:
        common = [
            option("--json", is_flag=True, help="Print the outputs as one JSON object on stdout."),
            option("--debug", is_flag=True, help="Show where an error came from."),
            option(
                "--registry-timeout",
                type=SECONDS,
                default=30.0,
                help="Seconds that one look-up in the registry may take, retries included.",
            ),
        ]
        for add in common:
            function = add(function)
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        made: GateCommand = click.command(name, cls=GateCommand, context_settings=settings)(function)
        # In --help, what is a command's own comes first.
        made.outputs = tuple(outputs)
        made.params = made.params[len(common) :] + made.params[: len(common)]
        return made

    return decorate


def run(main: click.Command) -> NoReturn:
    """Run a command as the whole of this process.

    A gate is a short process under a large library: without the collector's passes over MLflow's modules, and
    without taking them apart at the end, it is a fifth faster.
    """
    gc.disable()
    code = EXIT_OUTSIDE_WORLD  # never 1, which is an answer
    try:
        main.main()
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else code
    except BaseException:  # noqa: BLE001  (a defect of `main` itself; the process ends here either way)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _known_variables() -> None:
    for variable in os.environ:
        if not variable.startswith(PREFIX) or variable.startswith(_OTHER_VARIABLES):
            continue
        name = variable.removeprefix(PREFIX).lower().replace("_", "-")
        if name not in INPUTS:
            near = difflib.get_close_matches(name, INPUTS, 1)
            raise BadInput(
                f"There is no input '{one_line(name, 120)}' (the variable {one_line(variable, 140)}).",
                "Misspelt, it would silently not count.",
                f"Did you mean '{near[0]}'?" if near else "See the inputs of the action in docs/reference.md.",
            )


def _report(result: Result, *, as_json: bool) -> int:
    github.write_outputs(result.outputs)
    in_summary = github.write_summary(result.markdown)
    if as_json:
        shown = json.dumps(dict(result.outputs) if result.json is None else result.json, indent=2)
        # The runner would take it for a command, wherever it stands; so written it is the same JSON.
        print(shown.replace("##[", "\\u0023#["))
    elif not in_summary or result.json is not None:
        print(result.text)
    else:
        for line in result.text.splitlines():
            github.log(line)
    if result.annotation is not None:
        github.annotate(result.annotation.level, result.annotation.title, result.annotation.message)
    sys.stdout.flush()
    return result.exit_code


def _show_error(error: GateError, *, debug: bool) -> int:
    from champion_gate import report

    if debug:
        # Each line on its own, so that no text of others can pass for a workflow command.
        for line in "".join(traceback.format_exception(error)).splitlines():
            github.log(line)
    github.write_summary(report.error(error))
    github.annotate("error", "Champion Gate", str(error))
    return error.exit_code


def _usage(error: click.ClickException) -> BadInput:
    parameter = getattr(error, "param", None)
    name = parameter.inputs[0] if isinstance(parameter, GateOption) else ""
    if isinstance(error, click.MissingParameter) and name:
        return BadInput(
            f"The input '{name}' is required, and it is empty or not given.",
            "",
            f"Set '{name}' under `with:` in the workflow, or --{name} on the command line.",
        )
    if name:
        return BadInput(f"The input '{name}' is not right: {error.message}")
    return BadInput(error.format_message().rstrip(".") + ".", "", "See --help.")


def _defect(error: Exception) -> GateError:
    unexpected = GateError(
        f"Unexpected error: {type(error).__name__}: {one_line(str(error), 500)}",
        "This is a defect of the gate, or a server that answers in an unknown way; nothing was decided.",
        "Run again with debug: true, and report what it shows.",
    )
    unexpected.__cause__ = error
    return unexpected
