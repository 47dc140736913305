"""The ledger: the record of a bulk job, with which it can be resumed and its results can be proven."""

from .chunks import Row
from .errors import (
    InputChangedError,
    LedgerError,
    LedgerLockedError,
    LedgerLostError,
    LedgerMismatchError,
    LedgerRedactedError,
    LedgerUnreadableError,
    LedgerWriteError,
)
from .ledger import Ledger, redact
from .location import TemporaryLedger
from .lock import Held, holding
from .prepare import has_job, prepare, reopen
from .reader import Job, LedgerReader, Run, Status
from .record import Record, evidence, record_of
from .spool import Spool
from .store import Presence
from .verification import Verified, verify

__all__ = [
    "Held",
    "InputChangedError",
    "Job",
    "Ledger",
    "LedgerError",
    "LedgerLockedError",
    "LedgerLostError",
    "LedgerMismatchError",
    "LedgerReader",
    "LedgerRedactedError",
    "LedgerUnreadableError",
    "LedgerWriteError",
    "Presence",
    "Record",
    "Row",
    "Run",
    "Spool",
    "Status",
    "TemporaryLedger",
    "Verified",
    "evidence",
    "has_job",
    "holding",
    "prepare",
    "record_of",
    "redact",
    "reopen",
    "verify",
]
