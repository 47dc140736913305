"""The ledger of a mass job, as its user names it."""

import functools
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..bulk import Outcome
from ..bulk.journal import Source, Undertaking
from ..bulk.results import ItemT
from ..clock import moment
from ..hooks import check_hook
from .book import Book, Terms
from .entries import LedgerEntries
from .errors import LedgerMismatchError
from .files import real, translated
from .holding import Held
from .location import LedgerLocation, TemporaryLedger, location_of
from .reading import LedgerReader
from .secret import Secret, key_path
from .spool import Spool
from .spooling import Spooling
from .store import JobRow, Store


class Ledger:
    """Remember a mass job in the file `path`: `journal=Ledger("job.db")`; the same call again goes on where it ended.

    It is made, with a key file beside it, where there is none. What has an outcome is not sent again, but what has one
    of `retry`; deletions without an outcome are sent again; of updates and creations those that were claimed in the
    last 15 minutes and since the machine was started, the others are `in_doubt`. `appended`: rows were added at the end
    of the input. `new_key`: the API key of the same app was exchanged. `notes`: what the record shall say of this run,
    such as the operator. `order`: what LedgerReader.order gives from this run on, once its input is found to be the
    same. `look`: called on the event loop about once a second while the job runs; what it gives, no ids,
    LedgerReader.sight tells meanwhile. `spool`: the ids of a deletion can't be given twice, as those of a generator;
    they are copied beside the ledger before the first is sent, read from there whatever is given later, and the copy is
    removed when all is done. `held`: the lock of the ledger, where the caller holds it. The job raises LedgerError
    where the ledger can't be used, or the input isn't the same.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | LedgerLocation,
        *,
        appended: bool = False,
        retry: Collection[Outcome] = (),
        new_key: bool = False,
        notes: Mapping[str, str] | None = None,
        order: Mapping[str, Any] | None = None,
        look: Callable[[], Mapping[str, Any]] | None = None,
        spool: bool = False,
        held: Held | None = None,
    ) -> None:
        done = ", ".join(outcome for outcome in retry if not outcome.is_failure)
        if done:
            raise ValueError(f"retry: what is done isn't sent again: leave out {done}")
        self._location = location_of(path)
        self.path = self._location.path
        if held is not None and held.path.absolute() != self.path.absolute():
            raise ValueError("held: that is the lock of another ledger")
        if spool and isinstance(self._location, TemporaryLedger):
            raise ValueError("spool: there is no place beside a temporary ledger: give the ids as a list")
        check_hook("look", look)
        self._look = look
        self._is_spooled = spool
        self._terms = Terms(
            appended=appended,
            retry=frozenset(retry),
            new_key=new_key,
            notes=dict(notes or {}),
            order=order,
            held=held,
        )

    def entries(self, undertaking: Undertaking, source: Source[ItemT]) -> LedgerEntries[ItemT]:
        """Begin a run of the job, or go on where an earlier one ended: for `bulk`."""
        if self._is_spooled and undertaking.operation != "delete":
            raise TypeError("only the ids of a deletion can be spooled: give what is to be written as a list")
        spooling = Spooling(Spool(self.path)) if self._is_spooled else None
        return LedgerEntries(
            source if spooling is None else spooling.source(source),
            lambda: Book.open(self._location, undertaking, self._terms, moment),
            moment,
            self._look,
            None if spooling is None else functools.partial(spooling.end, self.path),
        )

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"


def redact(path: str | os.PathLike[str]) -> None:
    """Make a ledger anonymous for good: remove its key file and the copy of its input. It can only be read afterwards.

    Raises LedgerError, with nothing removed, where it is in use or no ledger, or its key file was changed.
    """
    ledger = real(path)
    LedgerReader(ledger).close()
    with Store.open(ledger) as store, translated(key_path(ledger)):
        _remove_key(ledger, store.job())
        Spool(ledger).discard()


def _remove_key(ledger: Path, job: JobRow) -> None:
    beside = key_path(ledger)
    if not beside.exists():
        return
    secret = Secret.read(ledger)
    if secret is None or secret.check != job.secret_check:
        raise LedgerMismatchError(
            f"{beside} is the key file of another ledger, or was changed, so nothing was removed: put its own back, or "
            "move that file away",
            "secret",
        )
    beside.unlink()
