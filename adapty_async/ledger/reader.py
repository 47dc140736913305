"""Reading a ledger, even while its job runs: the progress of the job, each row, and the rows of one ID."""

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
from ..bulk.operations import IdType, ProfileId, make_id_normalizer
from .chunks import Row
from .errors import InputChangedError, LedgerAnonymizedError
from .files import build_damaged_error, is_locked, translate_errors
from .id_key import IdKey, build_anonymized_error, get_key_path
from .job_api_key import get_last_key_fingerprint
from .named_and_temporary import LedgerLocation, to_location
from .store import Presence, Store

RECENT_SECONDS: Final = 60
"""The length of the last minute in seconds."""


@attrs.frozen
class Job:
    """The job of a ledger.

    Attributes:
        made: When the ledger was created.
        operation: The name of the operation, such as `delete`.
        by: The type of the IDs.
        base_url: The server.
        key_fingerprint: The key that the job was started with or last prepared with. A run may have had a newer one.
        items: The number of items. None until the end of the input was read.
    """

    made: datetime
    operation: str
    by: IdType
    base_url: str
    key_fingerprint: str
    items: int | None


@attrs.frozen
class Run:
    """One run of the job.

    Attributes:
        number: The number of the run, from 1.
        started: When it started.
        ended: When it ended. None while it is running, and after a kill.
        key_fingerprint: Its API key.
        library_version: The version of adapty-async.
        notes: Its notes for the record.
        touched: Whether it may have had an effect. A run whose key Adapty rejects has none.
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
    """The progress of the job at the last commit.

    Attributes:
        known: Items read from the input.
        counts: Items that have an outcome, by outcome.
        claimed: Items that may have been sent and whose outcome is unknown.
        waiting: Items that weren't sent.
        first: When the first outcome was recorded. None if there is none.
        last: When the last outcome was recorded. None if there is none.
        recent: Outcomes of requests in the last minute.
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
        """All known items by outcome. Claimed items are `in_doubt`, and waiting items are `not_attempted`."""
        rest = Counter({Outcome.IN_DOUBT: self.claimed, Outcome.NOT_ATTEMPTED: self.waiting})
        return Counter(self.counts) + rest


class RowsDigest:
    """The SHA-256 of rows.

    Each row is one line: `position,hash,outcome,status,attempts,seconds since 1970`. A missing value is 0.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, row: Row) -> None:
        """Add the next row."""
        fields = (row.position, row.hash.hex(), row.standing, row.status or 0, row.attempts, row.at or 0)
        self._digest.update((",".join(map(str, fields)) + "\n").encode())

    def hexdigest(self) -> str:
        """Return the digest of the rows so far."""
        return self._digest.hexdigest()


class LedgerReader:
    """A reader of a ledger, even of one whose job runs. It shows the state at the time it was opened.

    Args:
        path: The path of the ledger.

    Attributes:
        path: The path of the ledger.
        job: The job.

    Raises:
        LedgerError: If there is no ledger, or it is damaged or has lost rows.
    """

    def __init__(self, path: str | os.PathLike[str] | LedgerLocation) -> None:
        self._location = to_location(path)
        self.path = self._location.path
        self._store = Store.open_to_read(self._location)
        try:
            self._store.begin_snapshot()
            job = self._store.read_job()
            self._known = self._store.count_items()
            self._exclude_lists = {row.number: row.name for row in self._store.read_exclude_lists()}
            self.job_options: Mapping[str, Any] = (
                {} if job.job_options is None else self._parse_json_object(job.job_options)
            )
            """The job options of the command line. Empty if the command line didn't start the job."""
        except BaseException:  # an interrupt too, which would leave the ledger open
            self._store.close()
            raise
        self._id_key_fingerprint = job.id_key_fingerprint
        self._file_digest = job.file_digest
        by: IdType = "profile_id" if job.identified_by == "profile_id" else "customer_user_id"
        self.job = Job(_to_datetime(job.made), job.operation, by, job.base_url, job.key_fingerprint, job.items)

    @property
    def runs(self) -> list[Run]:
        """The runs of the job, in order."""
        return [
            Run(
                number=run.number,
                started=_to_datetime(run.started),
                ended=None if run.ended is None else _to_datetime(run.ended),
                key_fingerprint=run.key_fingerprint,
                library_version=run.library_version,
                notes=self._parse_json_object(run.notes),
                touched=bool(run.touched),
            )
            for run in self._store.read_runs()
        ]

    @property
    def last_key(self) -> str:
        """The fingerprint of the API key with which the job can be resumed."""
        return get_last_key_fingerprint(self._store.read_job(), self._store.read_runs())

    @property
    def live_status(self) -> Mapping[str, Any] | None:
        """The last live status of the run that hasn't ended. None if there is none.

        A killed run leaves its live status behind. Use `is_running` to check whether the run still exists.
        """
        runs = self._store.read_runs()
        return self._parse_json_object(runs[-1].live_status) if runs and runs[-1].live_status is not None else None

    def status(self) -> Status:
        """Count the items by state.

        Returns:
            The progress of the job.

        Raises:
            LedgerError: If the ledger is damaged.
        """
        counts: Counter[Outcome] = Counter()
        known, claimed, recent = self._known, 0, 0
        first, last = math.inf, 0
        minute_ago = int(time.time()) - RECENT_SECONDS
        for row in self._store.iter_chunks():
            chunk = self._store.unpack_chunk(row)
            claimed += chunk.claimed_count
            counts += chunk.counts
            if chunk.counts:
                latest = chunk.last_outcome_at
                first, last = min(first, chunk.first_outcome_at), max(last, latest)
                recent += chunk.count_outcomes_since(minute_ago) if latest >= minute_ago else 0
        return Status(
            known=known,
            counts=counts,
            claimed=claimed,
            waiting=known - claimed - counts.total(),
            first=_to_datetime(int(first)) if counts else None,
            last=_to_datetime(last) if counts else None,
            recent=recent,
        )

    def rows(self) -> Iterator[Row]:
        """Iterate over all known items, in the order of the input.

        Returns:
            An iterator over the rows.

        Raises:
            LedgerError: If the ledger is damaged.
        """
        for row in self._store.iter_chunks():
            yield from self._store.unpack_chunk(row).iter_rows(
                row.number, self._store.read_hashes(row.number), self._exclude_lists
            )

    def digest(self) -> str:
        """Compute the digest of all rows, in the order of the input.

        Returns:
            The digest in hexadecimal, see RowsDigest.
        """
        digest = RowsDigest()
        for row in self.rows():
            digest.add(row)
        return digest.hexdigest()

    def input_digest(self) -> str:
        """Compute a digest of the input read so far.

        The digest is keyed. Without the key file, a guess of the input can't be tested.

        Returns:
            The digest in hexadecimal.
        """
        digest = hashlib.sha256()
        for row in self._store.iter_chunks():
            digest.update(row.digest)
        return digest.hexdigest()

    def is_running(self) -> bool:
        """Check whether a process uses the ledger at this moment.

        Returns:
            True if the ledger is locked.
        """
        return is_locked(self.path)

    def is_input_file(self, file: BinaryIO) -> bool:
        """Check whether the job was prepared from a file.

        Args:
            file: The file. The digest of all its bytes is compared.

        Returns:
            True if the contents are the same.

        Raises:
            LedgerAnonymizedError: If the key file is gone.
            OSError: If the file can't be read.
        """
        return self._file_digest is not None and self._load_id_key().digest_file(file) == self._file_digest

    def is_exclude_list(self, name: str, file: BinaryIO) -> bool:
        """Check whether a file has the contents that an exclude list had.

        Args:
            name: The name of the exclude list.
            file: The file. The digest of all its bytes is compared.

        Returns:
            True if the contents are the same.

        Raises:
            LedgerAnonymizedError: If the key file is gone.
            OSError: If the file can't be read.
        """
        digests = {row.name: row.digest for row in self._store.read_exclude_lists()}
        return self._load_id_key().digest_file(file) == digests.get(name)

    def check_key(self) -> None:
        """Check that IDs can be looked up.

        Raises:
            LedgerAnonymizedError: If the key file is gone.
        """
        self._load_id_key()

    def verification_results(self) -> Iterator[Presence]:
        """Iterate over the results of `verify`, in the order of the input.

        Returns:
            An iterator over the results.
        """
        return self._store.iter_presences()

    def find_rows(self, profile: ProfileId) -> list[Row]:
        """Find the rows of an ID.

        Args:
            profile: The ID.

        Returns:
            One row for each time that the ID is in the input, or an empty list.

        Raises:
            LedgerAnonymizedError: If the key file is gone.
        """
        wanted = self._load_id_key().hash(make_id_normalizer(self.job.by)(profile))
        found = []
        for row in self._store.iter_chunks():
            hashes = self._store.read_hashes(row.number)
            if wanted in hashes:
                rows = self._store.unpack_chunk(row).iter_rows(row.number, hashes, self._exclude_lists)
                found += [each for each in rows if each.hash == wanted]
        return found

    def rows_with_ids(self, ids: Iterable[ProfileId]) -> Iterator[tuple[Row, ProfileId]]:
        """Iterate over all rows together with their IDs.

        Args:
            ids: The IDs of the job's input, in order.

        Returns:
            An iterator over pairs of a row and its ID.

        Raises:
            InputChangedError: At the first ID that isn't the row's.
            LedgerAnonymizedError: If the key file is gone.
        """
        id_key, normalize_id = self._load_id_key(), make_id_normalizer(self.job.by)
        rows = self.rows()
        for position, profile in enumerate(ids):
            row = next(rows, None)
            if row is None and self.job.items is None:
                return  # never read by the job
            if row is None:
                raise InputChangedError(
                    f"the input continues after row {position:,}, where the job's input ended: pass the job's input",
                    position,
                    "longer",
                )
            if row.hash != id_key.hash(normalize_id(profile)):
                raise InputChangedError(
                    f"the input doesn't match the ledger: it first differs at row {position + 1:,}: "
                    "pass the job's input",
                    position,
                )
            yield row, profile
        short = next(rows, None)
        if short is not None:
            raise InputChangedError(
                f"the input ends after row {short.position:,}, but the ledger has more rows: pass the job's input",
                short.position,
                "shorter",
            )

    def _parse_json_object(self, text: str) -> Mapping[str, Any]:
        with contextlib.suppress(ValueError):
            read = json.loads(text)
            if isinstance(read, dict):
                return read
        raise build_damaged_error(self.path)

    def _load_id_key(self) -> IdKey:
        with translate_errors(get_key_path(self.path)):
            id_key = self._location.read_id_key()
        if id_key is None and not get_key_path(self.path).exists():
            raise build_anonymized_error(self.path)
        if id_key is None or id_key.fingerprint != self._id_key_fingerprint:
            raise LedgerAnonymizedError(
                f"{get_key_path(self.path)} is the key file of another ledger, or was changed: put the right one back; "
                "without it no ID can be looked up"
            )
        return id_key

    def close(self) -> None:
        """Close the file. Repeated calls have no effect."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _to_datetime(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
