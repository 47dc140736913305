"""The ledger: the record of a bulk job, with which it can be resumed and its results can be proven."""

from .chunks import Row
from .compliance_record import JobRecord, build_record, describe_item
from .deletion_verification import Verified, verify
from .errors import (
    InputChangedError,
    LedgerAnonymizedError,
    LedgerError,
    LedgerLockedError,
    LedgerLostError,
    LedgerMismatchError,
    LedgerUnreadableError,
    LedgerWriteError,
)
from .input_copy import Spool
from .job_preparation import has_job, prepare, reopen
from .ledger import Ledger, anonymize
from .lock import LedgerLock, lock_ledger
from .named_and_temporary import TemporaryLedger
from .reader import Job, LedgerReader, Run, Status
from .store import Presence

__all__ = [
    "InputChangedError",
    "Job",
    "JobRecord",
    "Ledger",
    "LedgerAnonymizedError",
    "LedgerError",
    "LedgerLock",
    "LedgerLockedError",
    "LedgerLostError",
    "LedgerMismatchError",
    "LedgerReader",
    "LedgerUnreadableError",
    "LedgerWriteError",
    "Presence",
    "Row",
    "Run",
    "Spool",
    "Status",
    "TemporaryLedger",
    "Verified",
    "anonymize",
    "build_record",
    "describe_item",
    "has_job",
    "lock_ledger",
    "prepare",
    "reopen",
    "verify",
]
