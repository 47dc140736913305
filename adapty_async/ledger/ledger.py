"""The ledger of a bulk job, as its user creates it."""

import functools
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..bulk import Outcome
from ..bulk.job_store import JobSpec, Source
from ..bulk.operations import OPERATIONS
from ..bulk.results import ItemT
from ..http.clocks import read_clocks
from ..http.hook_check import check_hook
from .errors import LedgerMismatchError
from .files import resolve_link, translate_errors
from .id_copy import IdSpool
from .id_key import IdKey, get_key_path
from .input_copy import Spool
from .lock import LedgerLock
from .named_and_temporary import LedgerLocation, TemporaryLedger, to_location
from .reader import LedgerReader
from .session import LedgerSession
from .session_state import ResumeConditions, SessionState
from .store import JobRow, Store


class Ledger:
    """The record of a bulk job in a file, with which the job can be resumed: `ledger=Ledger("job.db")`.

    If there is no file, it is created, with a key file next to it. The same call again resumes the job:

    - Items that have an outcome aren't sent again, except those in `retry`.
    - Deletions without an outcome are sent again.
    - Updates and creations that may have been sent are sent again if they were claimed in the last 15 minutes and since
      the machine was started. The others become `in_doubt`.

    Awaiting the job raises LedgerError if the ledger can't be used or the input isn't the same.

    Args:
        path: The path of the ledger, or a TemporaryLedger.
        appended: Whether rows may have been added at the end of the input.
        retry: Items with one of these outcomes are sent again.
        new_key: Whether another API key of the same app may be used.
        notes: Notes of this run for the record, such as the operator.
        job_options: The job options that LedgerReader.job_options returns from this run on, once the input has been
            found to be the same.
        live_status: Returns the live status, without IDs. It is called on the event loop about once per second while
            the job runs. LedgerReader.live_status returns the last status.
        spool: Whether to copy the IDs of a deletion to a file next to the ledger before the first one is sent. Use it
            if the input can't be read twice, for example a generator. Later runs read the copy and ignore their own
            input. The copy is removed when all items are done.
        lock: The lock of the ledger if the caller already holds it.

    Attributes:
        path: The path of the ledger.

    Raises:
        ValueError: If `retry` contains an outcome of an item that is done, `lock` is the lock of another ledger, or
            `spool` is used with a TemporaryLedger.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | LedgerLocation,
        *,
        appended: bool = False,
        retry: Collection[Outcome] = (),
        new_key: bool = False,
        notes: Mapping[str, str] | None = None,
        job_options: Mapping[str, Any] | None = None,
        live_status: Callable[[], Mapping[str, Any]] | None = None,
        spool: bool = False,
        lock: LedgerLock | None = None,
    ) -> None:
        done = ", ".join(outcome for outcome in retry if not outcome.is_failure)
        if done:
            raise ValueError(f"retry: items that are done aren't sent again: leave out {done}")
        self._location = to_location(path)
        self.path = self._location.path
        if lock is not None and lock.path.absolute() != self.path.absolute():
            raise ValueError("lock: that is the lock of another ledger")
        if spool and isinstance(self._location, TemporaryLedger):
            raise ValueError("spool: a temporary ledger can't have a copy of its input: pass the IDs as a list")
        check_hook("live_status", live_status)
        self._live_status = live_status
        self._is_spooled = spool
        self._options = ResumeConditions(
            appended=appended,
            retry=frozenset(retry),
            new_key=new_key,
            notes=dict(notes or {}),
            job_options=job_options,
            lock=lock,
        )

    def start_run(self, job_spec: JobSpec, source: Source[ItemT]) -> LedgerSession[ItemT]:
        """Start the first run of the job, or the next one. The functions of `bulk` call this.

        Args:
            job_spec: The job spec.
            source: The input of the job.

        Returns:
            The ledger session of the run.

        Raises:
            TypeError: If the input of an operation with attributes is to be spooled.
        """
        if self._is_spooled and OPERATIONS[job_spec.operation].has_attributes:
            raise TypeError("only the IDs of a deletion can be spooled: pass the changes as a list")
        id_spool = IdSpool(Spool(self.path)) if self._is_spooled else None
        return LedgerSession(
            source if id_spool is None else id_spool.wrap_source(source),
            lambda: SessionState.open(self._location, job_spec, self._options, read_clocks),
            read_clocks,
            self._live_status,
            None if id_spool is None else functools.partial(id_spool.close, self.path),
        )

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"


def anonymize(path: str | os.PathLike[str]) -> None:
    """Make a ledger anonymous for good. Its key file and the copy of its input are removed. Then it can only be read.

    Args:
        path: The path of the ledger.

    Raises:
        LedgerError: If the ledger is in use or isn't a ledger, or its key file was changed. Nothing is removed then.
    """
    ledger = resolve_link(path)
    LedgerReader(ledger).close()
    with Store.open(ledger) as store, translate_errors(get_key_path(ledger)):
        _remove_key(ledger, store.read_job())
        Spool(ledger).discard()


def _remove_key(ledger: Path, job: JobRow) -> None:
    key_file = get_key_path(ledger)
    if not key_file.exists():
        return
    id_key = IdKey.read(ledger)
    if id_key is None or id_key.fingerprint != job.id_key_fingerprint:
        raise LedgerMismatchError(
            f"{key_file} is the key file of another ledger, or was changed, so nothing was removed: put the right one "
            "back, or move that file away",
            "secret",
        )
    key_file.unlink()
