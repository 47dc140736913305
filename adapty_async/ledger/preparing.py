"""A job taken down before any of it is sent: the whole input, known and compared to its end."""

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TypeAlias

import attrs

from ..bulk import Decided
from ..bulk.jobs import By, source_of
from ..bulk.journal import Source, Undertaking
from ..models import ProfileAttributes
from .chunks import CHUNK, STATES, Chunk, check_clock, noted
from .files import real
from .holding import Held
from .inventory import Inventory, Part, begin, check, secret_of
from .location import LedgerLocation, location_of
from .reading import LedgerReader
from .store import Store, Writing

Change: TypeAlias = tuple[str, ProfileAttributes]


def has_job(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is a ledger. Raises LedgerError where there is something else, or a damaged one."""
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
    """Take down every row of an input in a new ledger, or compare every row with the one that there is.

    `rows`: ids to delete, or pairs of an id and what is written. `order`: what was asked for; `file`: what the rows are
    read from, by which it is known again. `exclude_lists`: files by which items may be excluded, by their names; they
    are known again, too. All is written or nothing. Raises LedgerError; InputChangedError where there
    is a ledger and the input isn't its own. `held`: the lock of the ledger, where it is held already.
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
    """Note in a ledger what is asked for from now on, whatever becomes of the next run. Raises LedgerError.

    `exclude_lists`: as of `prepare`.
    """
    with Store.open(held.path, held=held) as store, store.transaction():
        job = store.job()
        inventory = Inventory(store, secret_of(location_of(held.path), job), job, appended=False)
        inventory.note_order(order)
        inventory.note_exclude_lists(exclude_lists)
        store.write(inventory.draw_up())


def reopen(path: str | os.PathLike[str], *, held: Held | None = None) -> None:
    """Let every profile be looked for again of which a ledger says that there was none: it was another app's key that
    said so. What a verification found by it goes, too. All is written or nothing. Raises LedgerError.
    `held`: as of `prepare`.
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
    """Compare a part, or write it down."""
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
