"""What a ledger tells its reader, also while the job runs: where it stands, row by row, and of one id."""

import contextlib
import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import attrs

from ..bulk import Outcome
from ..bulk.jobs import By, ProfileId, name_of
from .chunks import Row
from .errors import InputChangedError, LedgerRedactedError
from .files import damaged, is_locked, translated
from .keys import last_key
from .location import LedgerLocation, location_of
from .secret import Secret, key_path
from .store import Presence, Store

RECENT: Final = 60
"""Seconds of the last minute."""


@attrs.frozen
class Job:
    """What the ledger is of. `items`: their number, None before the end of the input was seen.

    `key_fingerprint`: of the key that it was prepared with, or begun; a run may have had a newer one.
    """

    made: datetime
    operation: str
    by: By
    base_url: str
    key_fingerprint: str
    items: int | None


@attrs.frozen
class Run:
    """One run of the job. `ended`: None while it runs, and for good where it was killed. `notes`: as given.

    `touched`: whether something may have come of it: nothing does where Adapty refuses its key.
    """

    number: int
    started: datetime
    ended: datetime | None
    key_fingerprint: str
    library_version: str
    notes: Mapping[str, str]
    touched: bool


@attrs.frozen
class Status:
    """Where the job stood at the last commit.

    `known`: items that were read from the input. `counts`: those of them with an outcome. `claimed`: those that may
    have been sent and whose outcome isn't known; `waiting`: those that weren't sent. `first`, `last`: when there were
    outcomes. `recent`: those of the last minute that a request led to.
    """

    known: int
    counts: Mapping[Outcome, int]
    claimed: int
    waiting: int
    first: datetime | None
    last: datetime | None
    recent: int

    @property
    def totals(self) -> Mapping[Outcome, int]:
        """The number of items by outcome; what is claimed counts as in doubt, what waits as not attempted."""
        rest = Counter({Outcome.IN_DOUBT: self.claimed, Outcome.NOT_ATTEMPTED: self.waiting})
        return Counter(self.counts) + rest


class RowsDigest:
    """The SHA-256 of rows: of a line each, `position,hash,outcome,status,attempts,seconds since 1970`, 0 for none."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, row: Row) -> None:
        """Add the next row."""
        fields = (row.position, row.hash.hex(), row.standing, row.status or 0, row.attempts, row.at or 0)
        self._digest.update((",".join(map(str, fields)) + "\n").encode())

    def hexdigest(self) -> str:
        """Give the digest of the rows so far."""
        return self._digest.hexdigest()


class LedgerReader:
    """Read a ledger, also one whose job runs: everything is as of the moment at which it was opened.

    Raises LedgerError where there is no ledger, or a damaged one, as that of which rows were lost.
    """

    def __init__(self, path: str | os.PathLike[str] | LedgerLocation) -> None:
        self._location = location_of(path)
        self.path = self._location.path
        self._store = Store.open_to_read(self._location)
        try:
            self._store.begin_snapshot()
            job = self._store.job()
            self._known = self._store.items()
            self._exclude_lists = {row.number: row.name for row in self._store.exclude_lists()}
            self.order: Mapping[str, Any] = {} if job.input_order is None else self._mapping(job.input_order)
            """What the command line was asked for; empty where the job isn't one of it."""
        except BaseException:  # an interrupt, too: the ledger would stay open
            self._store.close()
            raise
        self._secret_check = job.secret_check
        self._file_digest = job.file_digest
        by: By = "profile_id" if job.identified_by == "profile_id" else "customer_user_id"
        self.job = Job(_time(job.made), job.operation, by, job.base_url, job.key_fingerprint, job.items)

    @property
    def runs(self) -> list[Run]:
        """The runs of the job, in order."""
        return [
            Run(
                number=run.number,
                started=_time(run.started),
                ended=None if run.ended is None else _time(run.ended),
                key_fingerprint=run.key_fingerprint,
                library_version=run.library_version,
                notes=self._mapping(run.notes),
                touched=bool(run.touched),
            )
            for run in self._store.runs()
        ]

    @property
    def last_key(self) -> str:
        """The fingerprint of the key with which the job goes on."""
        return last_key(self._store.job(), self._store.runs())

    @property
    def sight(self) -> Mapping[str, Any] | None:
        """What the run that hasn't ended wrote last of itself; None where there is no such.

        A kill leaves it behind: whether the run is still there `is_running` tells.
        """
        runs = self._store.runs()
        return self._mapping(runs[-1].sight) if runs and runs[-1].sight is not None else None

    def status(self) -> Status:
        """Count what became of the items."""
        counts: Counter[Outcome] = Counter()
        known, claimed, recent = self._known, 0, 0
        first, last = math.inf, 0
        minute_ago = int(time.time()) - RECENT
        for row in self._store.chunks():
            chunk = self._store.unpacked(row)
            claimed += chunk.claimed
            counts += chunk.counts
            if chunk.counts:
                latest = chunk.last
                first, last = min(first, chunk.first), max(last, latest)
                recent += chunk.answered_since(minute_ago) if latest >= minute_ago else 0
        return Status(
            known=known,
            counts=counts,
            claimed=claimed,
            waiting=known - claimed - counts.total(),
            first=_time(int(first)) if counts else None,
            last=_time(last) if counts else None,
            recent=recent,
        )

    def rows(self) -> Iterator[Row]:
        """Give every known item, in the order of the input."""
        for row in self._store.chunks():
            yield from self._store.unpacked(row).rows(row.number, self._store.hashes(row.number), self._exclude_lists)

    def digest(self) -> str:
        """Give the digest of all rows, in the order of the input."""
        digest = RowsDigest()
        for row in self.rows():
            digest.add(row)
        return digest.hexdigest()

    def input_digest(self) -> str:
        """Give a digest of the input that was read: keyed, so that nobody without the key file can test a guess."""
        digest = hashlib.sha256()
        for row in self._store.chunks():
            digest.update(row.digest)
        return digest.hexdigest()

    def is_running(self) -> bool:
        """Tell whether somebody works with the ledger at this moment."""
        return is_locked(self.path)

    def is_of(self, file: BinaryIO) -> bool:
        """Tell whether the job was prepared for that file, byte by byte. Raises LedgerRedactedError, OSError."""
        return self._file_digest is not None and self._secret().file_digest(file) == self._file_digest

    def is_exclude_list(self, name: str, file: BinaryIO) -> bool:
        """Tell whether a file is what an exclude list was, byte by byte. Raises LedgerRedactedError, OSError."""
        digests = {row.name: row.digest for row in self._store.exclude_lists()}
        return self._secret().file_digest(file) == digests.get(name)

    def check_key(self) -> None:
        """Refuse to do what needs the ids, where they can't be looked up. Raises LedgerRedactedError."""
        self._secret()

    def presences(self) -> Iterator[Presence]:
        """Give what `verify` found, in the order of the input."""
        return self._store.presences()

    def about(self, profile: ProfileId) -> list[Row]:
        """Give the rows of an id: none, or one for each time that it stands in the input."""
        wanted = self._secret().hash(name_of(self.job.by)(profile))
        found = []
        for row in self._store.chunks():
            hashes = self._store.hashes(row.number)
            if wanted in hashes:
                rows = self._store.unpacked(row).rows(row.number, hashes, self._exclude_lists)
                found += [each for each in rows if each.hash == wanted]
        return found

    def joined(self, ids: Iterable[ProfileId]) -> Iterator[tuple[Row, ProfileId]]:
        """Give each row with its id out of the input. Raises InputChangedError at the first that isn't the row's."""
        secret, name = self._secret(), name_of(self.job.by)
        rows = self.rows()
        for position, profile in enumerate(ids):
            row = next(rows, None)
            if row is None and self.job.items is None:
                return  # never read by the job
            if row is None:
                raise InputChangedError(
                    f"the input goes on after row {position:,}, unlike the ledger's: give the input of the job",
                    position,
                    "longer",
                )
            if row.hash != secret.hash(name(profile)):
                raise InputChangedError(
                    f"the input isn't the one of the ledger: it first differs at row {position + 1:,}: "
                    "give the input of the job",
                    position,
                )
            yield row, profile
        short = next(rows, None)
        if short is not None:
            raise InputChangedError(
                f"the input ends after row {short.position:,}, but the ledger knows more: give the input of the job",
                short.position,
                "shorter",
            )

    def _mapping(self, text: str) -> Mapping[str, Any]:
        with contextlib.suppress(ValueError):
            read = json.loads(text)
            if isinstance(read, dict):
                return read
        raise damaged(self.path)

    def _secret(self) -> Secret:
        with translated(key_path(self.path)):
            secret = self._location.read_secret()
        if secret is None or secret.check != self._secret_check:
            raise LedgerRedactedError(
                f"the key file {key_path(self.path)} is gone, or another ledger's: "
                "put it back; without it no id can be looked up"
            )
        return secret

    def close(self) -> None:
        """Let go of the file; again, harmlessly."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
