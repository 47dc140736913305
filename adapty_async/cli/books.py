"""What became of each row: counted, and where it failed written down."""

import contextlib
import csv
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from ..bulk import Outcome
from ..bulk.jobs import By
from .exits import CommandError, ExitStatus
from .inputs import Row

_OWNER_ONLY: Final = 0o600


class FailuresFile:
    """A new CSV file of the rows that failed, which is input for the next run. Only its owner may read it.

    `trouble`: why it can't be written any more. Raises CommandError where it can't be made.
    """

    def __init__(self, path: Path, by: By) -> None:
        self.trouble: CommandError | None = None
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        except FileExistsError:
            raise CommandError(f"{path} exists and may still be needed: give --failures another name") from None
        except OSError as error:
            raise CommandError(f"{path} can't be made: {error.strerror}: give --failures another name") from None
        # Written by the line: whoever looks into it meanwhile, or after a kill, finds whole rows.
        self._file = open(descriptor, "w", encoding="utf-8", newline="", buffering=1)  # noqa: PTH123, SIM115 - a descriptor, no path; `__exit__` closes it
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._write(by, "outcome", "reason", "line")
        if self.trouble is not None:
            self._close()
            raise self.trouble

    def write(self, row: Row, outcome: Outcome, reason: str) -> None:
        """Write a row down, where there is no trouble."""
        if self.trouble is None:
            self._write(row.id, outcome, reason, row.line)

    def _write(self, *fields: object) -> None:
        try:
            self._writer.writerow(fields)
        except OSError as error:
            self.trouble = CommandError(
                f"the file of --failures can't be written ({error.strerror}): make room before you run it again",
                ExitStatus.STOPPED,
            )

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # known already, from the row that couldn't be written
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()


@attrs.frozen
class Standing:
    """How many rows have which outcome, of `total`."""

    total: int
    counts: Mapping[Outcome, int]

    @property
    def done(self) -> int:
        """The number of rows that have an outcome."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """The number of rows whose outcome is a failure."""
        return sum(count for outcome, count in self.counts.items() if outcome.is_failure)


class Books:
    """The outcomes of `total` rows; the failures go into a file as well, where there is one."""

    def __init__(self, total: int, failures: FailuresFile | None = None) -> None:
        self._total = total
        self._counts: Counter[Outcome] = Counter()
        self._failures = failures

    @property
    def standing(self) -> Standing:
        """Where the books stand now."""
        return Standing(self._total, Counter(self._counts))

    @property
    def trouble(self) -> CommandError | None:
        """Why the failures can't be written down any more."""
        return self._failures.trouble if self._failures else None

    def enter(self, row: Row, outcome: Outcome, reason: str = "") -> None:
        """Enter the outcome of a row."""
        self._counts[outcome] += 1
        if self._failures and outcome.is_failure:
            self._failures.write(row, outcome, reason)

    def enter_unread(self) -> None:
        """Enter the rows that can't be read any more: never attempted."""
        self._counts[Outcome.NOT_ATTEMPTED] += self._total - self._counts.total()
