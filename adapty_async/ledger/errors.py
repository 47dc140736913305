"""What is wrong with a ledger, or with what it is to be used for: each in one sentence that says what to do.

LedgerError
├── LedgerLockedError       another process uses it
├── LedgerMismatchError     it belongs to another job: .what differs
├── InputChangedError       the input isn't the one it was made for: .kind tells how, .position where it first differs
├── LedgerRedactedError     its key file is gone: it can be read, but no input can be compared with it
├── LedgerUnreadableError   no ledger, a damaged one, or one of a newer version
└── LedgerWriteError        it can't be written: the disk is full, or the directory read-only
    └── LedgerLostError     while it was in use, one of its files was removed, renamed or replaced
"""

from pathlib import Path
from typing import Literal, TypeAlias

Difference: TypeAlias = Literal["differs", "rewritten", "shorter", "longer"]
Mismatch: TypeAlias = Literal["operation", "by", "server", "key", "secret"]


class LedgerError(Exception):
    """A ledger can't be used as it was asked for."""


class LedgerLockedError(LedgerError):
    """Another process uses the ledger."""


class LedgerMismatchError(LedgerError):
    """The ledger belongs to another job. `what`: which part of it differs; `secret` is the key file."""

    def __init__(self, sentence: str, what: Mismatch = "operation") -> None:
        super().__init__(sentence)
        self.what: Mismatch = what


class InputChangedError(LedgerError):
    """The input isn't the one that the ledger was made for. `position`: of the first item that differs, from 0.

    `kind`: its id differs there, or what is to be written (rewritten), or the input ends there (shorter), or the job's
    ended there (longer). `last`: where only a range of items is known in which it first differs, its last position.
    """

    def __init__(self, sentence: str, position: int = 0, kind: Difference = "differs", last: int | None = None) -> None:
        super().__init__(sentence)
        self.position = position
        self.kind: Difference = kind
        self.last = position if last is None else last


class LedgerRedactedError(LedgerError):
    """The key file of the ledger is gone."""


class LedgerUnreadableError(LedgerError):
    """The file is no ledger, a damaged one, or one of a newer version."""


class LedgerWriteError(LedgerError):
    """The ledger can't be written."""


class LedgerLostError(LedgerWriteError):
    """One of the files of a ledger that is in use was removed, renamed or replaced, or another process wrote in it.

    `kept`: the file that holds what was recorded: the ledger itself or a copy of it; None where nobody knows of one.
    """

    def __init__(self, sentence: str, kept: Path | None) -> None:
        super().__init__(sentence)
        self.kept = kept
