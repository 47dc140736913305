"""A copy of an input that can't be read twice. A later run of the job reads the copy."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from .errors import LedgerWriteError
from .files import OWNER_ONLY_MODE, resolve_link, sync_directory

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # its value there

_BLOCK_BYTES: Final = 1 << 16
# Without O_NONBLOCK, opening a pipe waits for a writer.
_READ_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Spool:
    """A copy of a job's input, in a file next to its ledger that only its owner can read.

    It contains IDs: call `discard` when the job is done.

    Args:
        ledger: The path of the ledger.
    """

    def __init__(self, ledger: str | os.PathLike[str]) -> None:
        path = resolve_link(ledger)
        self.path = path.with_name(f"{path.name}.spool")
        self._temp_path = self.path.with_name(f"{self.path.name}.part")

    @property
    def is_filled(self) -> bool:
        """Whether a complete copy exists."""
        with contextlib.suppress(OSError):  # the folder can't be entered any more
            return self.path.exists()
        return False

    def fill(self, source: BinaryIO) -> None:
        """Copy the whole input.

        Args:
            source: The input.

        Raises:
            LedgerWriteError: If the copy can't be written. No partial copy is left.
        """
        with self.writing() as write:
            while block := source.read(_BLOCK_BYTES):
                write(block)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[bytes], None]]:
        """Write the copy in the block. It exists when the block ends without an error, or not at all.

        Returns:
            A function that writes bytes to the copy.

        Raises:
            LedgerWriteError: If the copy can't be written.
        """
        try:
            with self._translate_errors():
                self._temp_path.unlink(missing_ok=True)
                descriptor = os.open(self._temp_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_MODE)
            lock_descriptor(descriptor)
            try:
                yield lambda block: self._write(descriptor, block)
                with self._translate_errors():
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with self._translate_errors():
                self._temp_path.replace(self.path)
            sync_directory(self.path.parent)
        except BaseException:  # an interrupt too, which would leave a partial copy
            with contextlib.suppress(OSError):
                self._temp_path.unlink(missing_ok=True)
            raise

    def _write(self, descriptor: int, block: bytes) -> None:
        with self._translate_errors():
            remaining = memoryview(block)
            while remaining:
                remaining = remaining[os.write(descriptor, remaining) :]

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
            return
        except OSError as error:
            reason = error.strerror
        raise LedgerWriteError(f"the input can't be copied to {self.path} ({reason}): make room for it")

    def open(self) -> BinaryIO:
        """Open the copy.

        Returns:
            The open file.

        Raises:
            OSError: If it can't be opened.
        """
        return self.path.open("rb")

    def sweep(self) -> None:
        """Remove a partial copy that a killed process left. Any other file of that name is kept."""
        remove_abandoned_file(self._temp_path)

    def discard(self) -> None:
        """Remove the copy, complete or partial. Repeated calls have no effect.

        Raises:
            LedgerWriteError: If it can't be removed.
        """
        try:
            self.path.unlink(missing_ok=True)
            self._temp_path.unlink(missing_ok=True)
            return
        except OSError as error:
            reason = error.strerror
        raise LedgerWriteError(f"{self.path} can't be removed ({reason}): it contains IDs, so remove it yourself")


def remove_abandoned_file(path: Path) -> None:
    """Remove a private file that isn't locked any more. Any other file at that path is kept."""
    with contextlib.suppress(OSError):  # usually it doesn't exist
        descriptor = os.open(path, _READ_FLAGS)
        try:
            if _is_private(descriptor) and lock_descriptor(descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def _is_private(descriptor: int) -> bool:
    """Return True if it is a file that only its owner can read, as a copy is."""
    return os.fstat(descriptor).st_mode == stat.S_IFREG | OWNER_ONLY_MODE


def lock_descriptor(descriptor: int) -> bool:
    """Lock an open file until it is closed or the process ends. Return True if this succeeds.

    If another process removes the file just before it is locked, the write fails. It also fails if another process
    removes a copy just after it is closed. Nothing is sent in either case.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
