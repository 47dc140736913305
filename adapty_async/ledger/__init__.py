"""The ledger: what a mass job remembers over the end of its process, and what proves what it did."""

from .chunks import Row
from .errors import (
    InputChangedError,
    LedgerError,
    LedgerLockedError,
    LedgerMismatchError,
    LedgerRedactedError,
    LedgerUnreadableError,
    LedgerWriteError,
)
from .ledger import Ledger, redact
from .reading import Job, LedgerReader, Run, Status

__all__ = [
    "InputChangedError",
    "Job",
    "Ledger",
    "LedgerError",
    "LedgerLockedError",
    "LedgerMismatchError",
    "LedgerReader",
    "LedgerRedactedError",
    "LedgerUnreadableError",
    "LedgerWriteError",
    "Row",
    "Run",
    "Status",
    "redact",
]
