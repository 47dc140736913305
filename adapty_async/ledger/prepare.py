"""Preparing a job: the ledger stores or checks the whole input before anything is sent."""

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TypeAlias

import attrs

from ..bulk import Decided
from ..bulk.api import By, source_of
from ..bulk.job_store import Source, Undertaking
from ..models import ProfileAttributes
from .chunks import CHUNK, STATES, Chunk, check_clock, noted
from .files import real
from .input_check import Inventory, Part, begin, check, secret_of
from .location import LedgerLocation, location_of
from .lock import Held
from .reader import LedgerReader
from .store import Store, Writing

Change: TypeAlias = tuple[str, ProfileAttributes]


def has_job(path: str | os.PathLike[str]) -> bool:
    """Check whether a ledger exists.

    Args:
        path: The path of the ledger.

    Returns:
        True if there is a ledger, False if there is no file.

    Raises:
        LedgerError: If the file isn't a ledger, or is damaged.
    """
    if not real(path).exists():
        return False
    LedgerReader(path).close()
    return True


def prepare(
    path: str | os.PathLike[str] | LedgerLocation,
    undertaking: Undertaking,
    rows: Iterable[str | Decided[str]] | Iterable[Change | Decided[Change]],
    *,
    order: Mapping[str, Any],
    file: BinaryIO | None,
    exclude_lists: Mapping[str, Path] = MappingProxyType({}),
    appended: bool = False,
    new_key: bool = False,
    held: Held | None = None,
) -> None:
    """Store each row of an input in a new ledger, or check each row against an existing ledger.

    All rows are written, or none.

    Args:
        path: The ledger.
        undertaking: The job spec.
        rows: The IDs to delete, or pairs of an ID and the attributes to write.
        order: The job options.
        file: The file with the rows. Its digest is stored, so that it can be recognized later.
        exclude_lists: The files of the exclude lists, by name. Their digests are stored too.
        appended: Whether rows may have been added at the end of the input.
        new_key: Whether another API key of the same app may be used.
        held: The lock of the ledger if the caller already holds it.

    Raises:
        LedgerError: If the ledger can't be used.
        InputChangedError: If the ledger exists and the input isn't its own.
    """

    location = location_of(path)
    check_clock(time.time())

    def take_down(store: Store) -> None:
        job = store.job()
        secret = secret_of(location, job)
        check(location.path, job, store.runs(), undertaking, new_key=new_key)
        inventory = Inventory(store, secret, job, appended=appended)
        inventory.note_exclude_lists(exclude_lists)
        by: By = "profile_id" if job.identified_by == "profile_id" else "customer_user_id"
        source = source_of(undertaking.operation, rows, by)
        for part, items in _parts(rows, source):
            _enter(store, inventory, part, items)
        digest = None if file is None else secret.file_digest(file)
        inventory.note_preparation(order, digest, undertaking.key_fingerprint)
        store.write(inventory.draw_up())

    is_made = False

    def make(store: Store) -> None:
        nonlocal is_made
        begin(store, location, undertaking, noted(time.time()))
        take_down(store)
        is_made = True

    with Store.open(location, make, held=held) as store:
        if not is_made:
            with store.transaction():
                take_down(store)


def note_order(held: Held, order: Mapping[str, Any], exclude_lists: Mapping[str, Path]) -> None:
    """Record new job options in a ledger, whether or not the next run succeeds. Raise LedgerError.

    `exclude_lists` is as in `prepare`.
    """
    with Store.open(held.path, held=held) as store, store.transaction():
        job = store.job()
        inventory = Inventory(store, secret_of(location_of(held.path), job), job, appended=False)
        inventory.note_order(order)
        inventory.note_exclude_lists(exclude_lists)
        store.write(inventory.draw_up())


def reopen(path: str | os.PathLike[str], *, held: Held | None = None) -> None:
    """Mark every profile that the ledger records as absent to be looked up again.

    This is for a job whose key belonged to another app, which had none of the profiles. The results of verifications
    are removed. All changes are written, or none.

    Args:
        path: The path of the ledger.
        held: The lock of the ledger if the caller already holds it.

    Raises:
        LedgerError: If the ledger can't be used.
    """
    with Store.open(real(path), held=held) as store, store.transaction():
        for number in itertools.count():
            row = next(store.chunks(number, number + 1), None)
            if row is None:
                break
            chunk = store.unpacked(row)
            if chunk.reopen():
                store.write(Writing(outcomes=[(number, chunk.pack())]))
        store.forget_presences()


def _enter(store: Store, inventory: Inventory, part: Part, items: list[Any]) -> None:
    """Check a chunk against the ledger, or store it."""
    (chunk,) = inventory.recall([part])
    met = inventory.meet(part, chunk)
    if met.is_new:
        _decide(met.chunk, items, met.known, inventory)
        store.write(attrs.evolve(inventory.draw_up(), outcomes=[(part.number, met.chunk.pack())]))
        inventory.written()


def _decide(chunk: Chunk, items: list[Any], start: int, inventory: Inventory) -> None:
    now = noted(time.time())
    for index, item in enumerate(items[start:], start):
        if isinstance(item, Decided):
            chunk.settle(index, STATES[item.outcome], inventory.number_of(item.exclude_list), 0, now)


def _parts(rows: Iterable[Any], source: Source[Any]) -> Iterator[tuple[Part, list[Any]]]:
    rest = iter(rows)
    for number in itertools.count():
        items = list(itertools.islice(rest, CHUNK))
        plain = [item.item if isinstance(item, Decided) else item for item in items]
        names = list(map(source.name, plain))
        contents = names if source.content is source.name else list(map(source.content, plain))
        is_last = len(items) < CHUNK
        yield Part(number, names, contents, is_last), items
        if is_last:
            return
