"""What is wrong with a ledger, or with what it is to be used for: each in one sentence that says what to do.

LedgerError
├── LedgerLockedError       another process uses it
├── LedgerMismatchError     it belongs to another job: operation, kind of ids, server or key
├── InputChangedError       the input isn't the one it was made for: .position is where it first differs
├── LedgerRedactedError     its key file is gone: it can be read, but no input can be compared with it
├── LedgerUnreadableError   no ledger, a damaged one, or one of a newer version
└── LedgerWriteError        it can't be written: the disk is full, or the directory read-only
"""


class LedgerError(Exception):
    """A ledger can't be used as it was asked for."""


class LedgerLockedError(LedgerError):
    """Another process uses the ledger."""


class LedgerMismatchError(LedgerError):
    """The ledger belongs to another job."""


class InputChangedError(LedgerError):
    """The input isn't the one that the ledger was made for. `position`: of the first item that differs, from 0."""

    def __init__(self, sentence: str, position: int = 0) -> None:
        super().__init__(sentence)
        self.position = position


class LedgerRedactedError(LedgerError):
    """The key file of the ledger is gone."""


class LedgerUnreadableError(LedgerError):
    """The file is no ledger, a damaged one, or one of a newer version."""


class LedgerWriteError(LedgerError):
    """The ledger can't be written."""
