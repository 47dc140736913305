"""Preparation of a job: create or check its ledger, and store or check its whole input before anything is sent."""

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TypeAlias

import attrs

from ..bulk import SkippedItem
from ..bulk.job_store import JobSpec, Source
from ..bulk.operations import OPERATIONS, IdType
from ..models import ProfileAttributes
from .chunks import ITEMS_PER_CHUNK, STATES, Chunk, check_clock, to_timestamp
from .errors import LedgerMismatchError, Mismatch
from .files import build_write_error, resolve_link, translate_errors
from .id_key import IdKey, build_anonymized_error, get_key_path
from .input_check import InputCheck, InputChunk
from .job_api_key import get_last_key_fingerprint
from .lock import LedgerLock
from .named_and_temporary import LedgerLocation, to_location
from .reader import LedgerReader
from .store import CommitData, JobRow, RunRow, Store

ProfileChange: TypeAlias = tuple[str, ProfileAttributes]


def has_job(path: str | os.PathLike[str]) -> bool:
    """Check whether a ledger exists.

    Args:
        path: The path of the ledger.

    Returns:
        True if there is a ledger, False if there is no file.

    Raises:
        LedgerError: If the file isn't a ledger, or is damaged.
    """
    path = resolve_link(path)
    with translate_errors(path):
        if not path.exists():
            return False
    LedgerReader(path).close()
    return True


def prepare(
    path: str | os.PathLike[str] | LedgerLocation,
    job_spec: JobSpec,
    rows: Iterable[str | SkippedItem[str]] | Iterable[ProfileChange | SkippedItem[ProfileChange]],
    *,
    job_options: Mapping[str, Any],
    file: BinaryIO | None,
    exclude_lists: Mapping[str, Path] = MappingProxyType({}),
    appended: bool = False,
    new_key: bool = False,
    lock: LedgerLock | None = None,
) -> None:
    """Store each row of an input in a new ledger, or check each row against an existing ledger.

    All rows are written, or none.

    Args:
        path: The ledger.
        job_spec: The job spec.
        rows: The IDs to delete, or pairs of an ID and the attributes to write.
        job_options: The job options.
        file: The file with the rows. Its digest is stored, so that it can be recognized later.
        exclude_lists: The files of the exclude lists, by name. Their digests are stored too.
        appended: Whether rows may have been added at the end of the input.
        new_key: Whether another API key of the same app may be used.
        lock: The lock of the ledger if the caller already holds it.

    Raises:
        LedgerError: If the ledger can't be used.
        InputChangedError: If the ledger exists and the input isn't its own.
    """

    location = to_location(path)
    check_clock(time.time())

    def check_or_store_rows(store: Store) -> None:
        job = store.read_job()
        id_key = load_id_key(location, job)
        check_job_spec(location.path, job, store.read_runs(), job_spec, new_key=new_key)
        input_check = InputCheck(store, id_key, job, appended=appended)
        input_check.record_exclude_lists(exclude_lists)
        by: IdType = "profile_id" if job.identified_by == "profile_id" else "customer_user_id"
        source = OPERATIONS[job_spec.operation].build_source(rows, by)
        for input_chunk, items in _iter_chunks(rows, source):
            _check_or_store_chunk(store, input_check, input_chunk, items)
        digest = None if file is None else id_key.digest_file(file)
        input_check.record_preparation(job_options, digest, job_spec.key_fingerprint)
        store.write(input_check.prepare_commit())

    is_made = False

    def initialize(store: Store) -> None:
        nonlocal is_made
        create_job(store, location, job_spec, to_timestamp(time.time()))
        check_or_store_rows(store)
        is_made = True

    with Store.open(location, initialize, lock=lock) as store:
        if not is_made:
            with store.transaction():
                check_or_store_rows(store)


def update_job_options(lock: LedgerLock, job_options: Mapping[str, Any], exclude_lists: Mapping[str, Path]) -> None:
    """Record new job options in a ledger, whether or not the next run succeeds. Raise LedgerError.

    `exclude_lists` is as in `prepare`.
    """
    with Store.open(lock.path, lock=lock) as store, store.transaction():
        job = store.read_job()
        input_check = InputCheck(store, load_id_key(to_location(lock.path), job), job, appended=False)
        input_check.record_job_options(job_options)
        input_check.record_exclude_lists(exclude_lists)
        store.write(input_check.prepare_commit())


def reopen(path: str | os.PathLike[str], *, lock: LedgerLock | None = None) -> None:
    """Mark every profile that the ledger records as absent to be looked up again.

    This is for a job whose key belonged to another app, which had none of the profiles. The results of verifications
    are removed. All changes are written, or none.

    Args:
        path: The path of the ledger.
        lock: The lock of the ledger if the caller already holds it.

    Raises:
        LedgerError: If the ledger can't be used.
    """
    with Store.open(resolve_link(path), lock=lock) as store, store.transaction():
        for number in itertools.count():
            row = next(store.iter_chunks(number, number + 1), None)
            if row is None:
                break
            chunk = store.unpack_chunk(row)
            if chunk.reopen():
                store.write(CommitData(outcomes=[(number, chunk.pack())]))
        store.delete_presences()


def _check_or_store_chunk(store: Store, input_check: InputCheck, input_chunk: InputChunk, items: list[Any]) -> None:
    """Check a chunk against the ledger, or store it."""
    (chunk,) = input_check.load_and_check([input_chunk])
    checked_chunk = input_check.add_chunk(input_chunk, chunk)
    if checked_chunk.has_new_items:
        _record_skipped_items(checked_chunk.chunk, items, checked_chunk.known_count, input_check)
        store.write(
            attrs.evolve(input_check.prepare_commit(), outcomes=[(input_chunk.number, checked_chunk.chunk.pack())])
        )
        input_check.on_committed()


def _record_skipped_items(chunk: Chunk, items: list[Any], start: int, input_check: InputCheck) -> None:
    timestamp = to_timestamp(time.time())
    for index, item in enumerate(items[start:], start):
        if isinstance(item, SkippedItem):
            chunk.record_outcome(
                index, STATES[item.outcome], input_check.get_exclude_list_number(item.exclude_list), 0, timestamp
            )


def _iter_chunks(rows: Iterable[Any], source: Source[Any]) -> Iterator[tuple[InputChunk, list[Any]]]:
    rest = iter(rows)
    for number in itertools.count():
        items = list(itertools.islice(rest, ITEMS_PER_CHUNK))
        plain = [item.item if isinstance(item, SkippedItem) else item for item in items]
        ids = list(map(source.get_id, plain))
        contents = ids if source.get_content is source.get_id else list(map(source.get_content, plain))
        is_last = len(items) < ITEMS_PER_CHUNK
        yield InputChunk(number, ids, contents, is_last), items
        if is_last:
            return


def create_job(store: Store, location: LedgerLocation, job_spec: JobSpec, timestamp: int) -> None:
    """Write a job into a new ledger. Create a key file next to it if there is none."""
    try:
        id_key = location.read_id_key() or location.create_id_key()
    except OSError as error:
        failure = build_write_error(get_key_path(location.path), error)
    else:
        job = JobRow(
            made=timestamp,
            operation=job_spec.operation,
            identified_by=job_spec.by,
            base_url=job_spec.base_url,
            key_fingerprint=job_spec.key_fingerprint,
            id_key_fingerprint=id_key.fingerprint,
            items=None,
        )
        store.write(CommitData(job=job))
        return
    raise failure


def load_id_key(location: LedgerLocation, job: JobRow) -> IdKey:
    """Read the ID key of a ledger. Raise LedgerError if its file is missing or holds another key."""
    path = location.path
    try:
        id_key = location.read_id_key()
    except OSError as error:
        failure = build_write_error(get_key_path(path), error)
    else:
        if id_key is None and not get_key_path(path).exists():
            raise build_anonymized_error(path)
        if id_key is None or id_key.fingerprint != job.id_key_fingerprint:
            raise LedgerMismatchError(
                f"{get_key_path(path)} is the key file of another ledger, or was changed: put the right one "
                "back; without it the job can't be resumed",
                "secret",
            )
        return id_key
    raise failure


def check_job_spec(path: Path, job: JobRow, runs: Sequence[RunRow], job_spec: JobSpec, *, new_key: bool) -> None:
    """Compare the job spec with the stored one. Raise LedgerMismatchError."""
    pairs: tuple[tuple[Mismatch, str, str, str], ...] = (
        ("operation", "operation", job.operation, job_spec.operation),
        ("by", "ID type", job.identified_by, job_spec.by),
        ("server", "server", job.base_url, job_spec.base_url),
    )
    for what, name, known, given in pairs:
        if known != given:
            raise LedgerMismatchError(
                f"{path} belongs to another job: its {name} is {known}, not {given}: use another ledger", what
            )
    if get_last_key_fingerprint(job, runs) != job_spec.key_fingerprint and not new_key:
        raise LedgerMismatchError(
            f"{path} belongs to a job with another API key: use that key, or another ledger; "
            "if the app's key was replaced, pass new_key=True",
            "key",
        )
