"""A copy of an input that can't be read twice: a job that goes on another day needs it again."""

import os
import shutil
from pathlib import Path
from typing import BinaryIO, Final

from .errors import LedgerWriteError

_OWNER_ONLY: Final = 0o600


class Spool:
    """The input of a job, copied to a file beside its ledger that only its owner may read.

    It holds ids: `discard` it at the clean end of the job.
    """

    def __init__(self, ledger: str | os.PathLike[str]) -> None:
        self.path = Path(ledger).with_name(f"{Path(ledger).name}.spool")

    @property
    def is_filled(self) -> bool:
        """Tell whether there is a copy, a whole one."""
        return self.path.exists()

    def fill(self, source: BinaryIO) -> None:
        """Copy the input to its end. Raises LedgerWriteError, and leaves nothing behind then."""
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            part.unlink(missing_ok=True)
            try:
                self._copy(source, part)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            reason = error.strerror
        else:
            return
        raise LedgerWriteError(f"the input can't be copied to {self.path} ({reason}): make room for it")

    def _copy(self, source: BinaryIO, part: Path) -> None:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, no path
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(descriptor)
        part.replace(self.path)

    def open(self) -> BinaryIO:
        """Open the copy. Raises OSError."""
        return self.path.open("rb")

    def discard(self) -> None:
        """Remove the copy; again, harmlessly."""
        self.path.unlink(missing_ok=True)
