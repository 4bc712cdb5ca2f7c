"""The command `phoropter`: puts the commands together and runs them; the only file that knows exit codes.

0: done · 1: whoever read our output has gone; of `diff` and `pack diff`, the two differ · 2: `error: ...`, one line on
standard error that says what to do · 130: Ctrl-C.
"""

import logging
import os
import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from lenses.errors import PhoropterError
from runtime.commands import pack_making, pack_sharing, packs
from runtime.commands.diff import diff
from runtime.commands.doctor import doctor
from runtime.commands.record import record
from runtime.commands.replay import replay
from runtime.commands.scan import scan
from runtime.commands.serve import serve
from runtime.commands.train import measure, train
from runtime.commands.watch import watch

_UsageError = typer.BadParameter.__base__
"""What typer raises for arguments that it cannot take; it has no public name of its own."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="See which concepts are active inside a language model while it writes.",
)
for command in (watch, serve, record, replay, diff, scan, train, doctor):
    app.command()(command)
pack_app = typer.Typer(
    help="Look at lens packs, share them, and make them out of others: import, convert, subset, compare."
)
for group in (packs, pack_making, pack_sharing):
    group.register(pack_app)
pack_app.command()(measure)
app.add_typer(pack_app, name="pack")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"phoropter {installed_version('phoropter')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors of our own are printed, bugs are not caught."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a token may have no spelling in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("stamina").setLevel(
        logging.ERROR
    )  # each attempt again is news to programs, not to people
    try:
        code = app(arguments, prog_name="phoropter", standalone_mode=False)
        sys.stdout.flush()
    except PhoropterError as error:
        return _fail(str(error))
    except _UsageError as error:  # type: ignore[misc]
        said = " ".join(error.format_message().split()).rstrip(".")
        return _fail(f"{said}; phoropter --help shows how")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes standard output once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
