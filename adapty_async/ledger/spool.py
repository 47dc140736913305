"""A copy of an input that can't be read twice: a job that goes on another day needs it again."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from .errors import LedgerWriteError
from .files import OWNER_ONLY, real, sync_names

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # what it is there

_BLOCK: Final = 1 << 16
# Without O_NONBLOCK the opening of a pipe waits for whoever writes to it.
_LOOKING: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Spool:
    """The input of a job, copied to a file beside its ledger that only its owner may read.

    It holds ids: `discard` it at the clean end of the job.
    """

    def __init__(self, ledger: str | os.PathLike[str]) -> None:
        path = real(ledger)
        self.path = path.with_name(f"{path.name}.spool")
        self._part = self.path.with_name(f"{self.path.name}.part")

    @property
    def is_filled(self) -> bool:
        """Tell whether there is a copy, a whole one."""
        with contextlib.suppress(OSError):  # a folder that can't be entered any more
            return self.path.exists()
        return False

    def fill(self, source: BinaryIO) -> None:
        """Copy the input to its end. Raises LedgerWriteError, and leaves nothing behind then."""
        with self.writing() as write:
            while block := source.read(_BLOCK):
                write(block)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[bytes], None]]:
        """Give what writes the copy: it is there when the block is at its end, or never. Raises LedgerWriteError."""
        try:
            with self._translated():
                self._part.unlink(missing_ok=True)
                descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
            hold(descriptor)
            try:
                yield lambda block: self._write(descriptor, block)
                with self._translated():
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with self._translated():
                self._part.replace(self.path)
            sync_names(self.path.parent)
        except BaseException:  # an interrupt, too: the half of a copy would stay behind
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)
            raise

    def _write(self, descriptor: int, block: bytes) -> None:
        with self._translated():
            left = memoryview(block)
            while left:
                left = left[os.write(descriptor, left) :]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
            return
        except OSError as error:
            reason = error.strerror
        raise LedgerWriteError(f"the input can't be copied to {self.path} ({reason}): make room for it")

    def open(self) -> BinaryIO:
        """Open the copy. Raises OSError."""
        return self.path.open("rb")

    def sweep(self) -> None:
        """Remove what a kill left of a copy; whatever else has its name, or is being written, stays."""
        remove_abandoned(self._part)

    def discard(self) -> None:
        """Remove the copy, and what a kill left of one; again, harmlessly. Raises LedgerWriteError."""
        try:
            self.path.unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)
            return
        except OSError as error:
            reason = error.strerror
        raise LedgerWriteError(f"{self.path} can't be removed ({reason}): it holds the ids, so remove it yourself")


def remove_abandoned(part: Path) -> None:
    """Remove a private file that nobody holds any more; whatever else has that name stays."""
    with contextlib.suppress(OSError):  # most often there is none
        descriptor = os.open(part, _LOOKING)
        try:
            if _is_private(descriptor) and hold(descriptor):
                part.unlink()
        finally:
            os.close(descriptor)


def _is_private(descriptor: int) -> bool:
    """Tell whether it is a file that only its owner may read, as a copy is."""
    return os.fstat(descriptor).st_mode == stat.S_IFREG | OWNER_ONLY


def hold(descriptor: int) -> bool:
    """Lock an open file until it is closed, by a kill too; tell whether that could be done.

    Who removes what is abandoned in the moment before it is locked makes the writing fail; so does, of a copy, who does
    so after it is closed: nothing is sent then.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
