"""What the operating system says of a write, as a sentence about the place that was written to."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stcompile.errors import ArtifactError, StcompileError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def written(place: Path) -> Iterator[None]:
    """Wraps what writes to `place` and to nothing else: every OSError inside is told as one of `place`.

    Raises:
        ArtifactError: it could not be written.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise ArtifactError(f"no space left to write {place}: free some or choose another disk") from error
        if error.errno in _REFUSED:
            raise ArtifactError(f"{place} cannot be written ({error.strerror}): choose another one") from error
        raise ArtifactError(f"{place} could not be written: {error}") from error


@contextlib.contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A temporary folder, gone after the block.

    Args:
        purpose: what its name says.

    Raises:
        StcompileError: the temporary folder is full or cannot be written. Any other error of the block stays as it is.
    """
    with contextlib.ExitStack() as stack:
        try:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"stcompile-{purpose}-")))
        except OSError as error:
            raise no_scratch(error, tempfile.tempdir) from error
        with in_scratch(made):
            yield made


@contextlib.contextmanager
def in_scratch(folder: Path) -> Iterator[None]:
    """Wraps what writes to a folder of `scratch`, in whatever process.

    Raises:
        StcompileError: the temporary folder is full. Any other error of the block stays as it is.
    """
    try:
        yield
    except OSError as error:
        # A full disk names no file when a stream is written, and the block writes streams there.
        if is_full(error) and (error.filename is None or folder in Path(str(error.filename)).parents):
            raise no_scratch(error, folder.parent) from error
        raise


def is_full(error: OSError) -> bool:
    """Whether a disk has no more space; numpy tells only how much of an array it could write."""
    return error.errno in _FULL or (error.errno is None and "requested and" in str(error))


def no_scratch(error: OSError, place: object) -> StcompileError:
    """What to raise where the temporary folder, or one in it, cannot be written."""
    reason = "no space left" if is_full(error) else f"nothing can be written ({error.strerror})"
    return StcompileError(
        f"{reason} in the temporary folder {place or ''}: free some, or name another one in the environment "
        "variable TMPDIR"
    )
