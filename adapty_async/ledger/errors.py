"""Errors of the ledger. Each message is one sentence with the problem and what to do.

LedgerError
├── LedgerLockedError       another process uses the ledger
├── LedgerMismatchError     the ledger belongs to another job (`what`: the difference)
├── InputChangedError       the input isn't the one the ledger was made for (`kind`, and `position` of the difference)
├── LedgerAnonymizedError   the key file is gone: the ledger can be read, but no input can be compared with it
├── LedgerUnreadableError   the file isn't a ledger, is damaged, or was made by a newer version
└── LedgerWriteError        the ledger can't be written: the disk is full, or the directory is read-only
    └── LedgerLostError     a file of the ledger was removed, renamed or replaced while the ledger was in use
"""

from pathlib import Path
from typing import Literal, TypeAlias

Difference: TypeAlias = Literal["differs", "rewritten", "shorter", "longer"]
Mismatch: TypeAlias = Literal["operation", "by", "server", "key", "secret"]


class LedgerError(Exception):
    """A ledger can't be used as requested."""


class LedgerLockedError(LedgerError):
    """Another process uses the ledger."""


class LedgerMismatchError(LedgerError):
    """The ledger belongs to another job.

    Attributes:
        what: The part that differs. `secret` is the key file.
    """

    def __init__(self, sentence: str, what: Mismatch = "operation") -> None:
        super().__init__(sentence)
        self.what: Mismatch = what


class InputChangedError(LedgerError):
    """The input isn't the one that the ledger was made for.

    Attributes:
        position: The position of the first item that differs, from 0.
        kind: The difference: another ID (`differs`), the same ID with other content (`rewritten`), an input that ends
            there (`shorter`), or an input that is longer than the job's (`longer`).
        last: Equal to `position`, unless only a range of items is known that contains the first difference. Then it is
            the last position of that range.
    """

    def __init__(self, sentence: str, position: int = 0, kind: Difference = "differs", last: int | None = None) -> None:
        super().__init__(sentence)
        self.position = position
        self.kind: Difference = kind
        self.last = position if last is None else last


class LedgerAnonymizedError(LedgerError):
    """The key file of the ledger is gone."""


class LedgerUnreadableError(LedgerError):
    """The file isn't a ledger, is damaged, or was made by a newer version."""


class LedgerWriteError(LedgerError):
    """The ledger can't be written."""


class LedgerLostError(LedgerWriteError):
    """A file of a ledger in use was removed, renamed or replaced, or another process wrote to the ledger.

    Attributes:
        kept: The file that holds the recorded data: the ledger itself or a copy of it. None if no such file is known.
    """

    def __init__(self, sentence: str, kept: Path | None) -> None:
        super().__init__(sentence)
        self.kept = kept
