"""The command line: its verbs, and errors to sentences and exit codes. The work is elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from stcompile import __version__
from stcompile.cli.console import (
    BAD_INPUT,
    BUG,
    DONE,
    INTERRUPTED,
    PARITY_FAILED,
    StoppedError,
    drop_standard_output,
    err,
    logger,
    open_standard_streams,
    out,
)
from stcompile.cli.doctor import doctor
from stcompile.cli.encode import encode
from stcompile.cli.export import export
from stcompile.cli.inspect import inspect
from stcompile.cli.push import push
from stcompile.cli.rerank import rerank
from stcompile.cli.serve import serve
from stcompile.cli.targets import targets
from stcompile.cli.tune import tune
from stcompile.cli.verify import verify
from stcompile.errors import ParityError, StcompileError

_EPILOG = "Exit codes: 0 done, 1 parity failed, 2 bad input or usage, 70 a bug, 130 interrupted."

app = typer.Typer(
    name="stcompile",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Compile a Sentence-Transformers model folder, the whole module stack, into one verified ONNX graph, and "
    "turn text into embeddings, and pairs of texts into scores, without torch.",
    epilog=_EPILOG,
)
# Typer hands out click's BadParameter but not the UsageError above it, and newer releases carry click inside.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]

for _verb in (export, tune, verify, encode, rerank, serve, push, inspect, targets, doctor):
    app.command(epilog=_EPILOG)(_verb)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit


def run() -> NoReturn:
    """Runs the command line and exits with its code; an error is one sentence on standard error."""
    signal.signal(signal.SIGTERM, _terminate)
    open_standard_streams()
    try:
        code = app(standalone_mode=False) or DONE
        sys.stdout.flush()
    except _USAGE_ERROR as error:
        with contextlib.suppress(OSError):
            error.show()
        code = BAD_INPUT
    except ParityError as error:
        code = _failed(error, PARITY_FAILED)
    except StoppedError as error:
        _failed(error, INTERRUPTED)
        sys.exit(INTERRUPTED)
    except StcompileError as error:
        code = _failed(error, BAD_INPUT)
    except OSError as error:
        where = error.filename or ("standard output" if _standard_output_fails() else None)
        drop_standard_output()
        code = _failed(StcompileError(f"{error.strerror or error}{'' if where is None else f': {where}'}"), BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if os.environ.get("STCOMPILE_DEBUG"):
            raise
        text = f"unexpected {type(error).__name__}: {error}; this is a bug, STCOMPILE_DEBUG=1 shows where"
        code = _failed(StcompileError(text), BUG)
    # Typer answers Ctrl-C with this code by itself, and says nothing.
    if code == INTERRUPTED:
        err.print("stcompile: interrupted; nothing was published", highlight=False)
    sys.exit(code)


def _standard_output_fails() -> bool:
    """What could not be written is written once more, so that another failure without a file is not taken for it."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _terminate(*_: object) -> None:
    # Unwinds like Ctrl-C, so that staged files are cleaned up.
    raise KeyboardInterrupt


def _failed(error: StcompileError, code: int) -> int:
    if logger.isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    err.print(f"stcompile: {error}", highlight=False, markup=False, soft_wrap=True)
    return code
