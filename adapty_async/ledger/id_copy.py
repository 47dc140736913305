"""The copy of the IDs of a deletion whose IDs can't be read twice: fills a spool and reads it.

All IDs are copied before the first one is sent, and are then read from the copy.
"""

import asyncio
import itertools
import json
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO, Final, cast

from ..bulk import Outcome, SkippedItem
from ..bulk.job_store import Source
from ..bulk.operations import UNFINISHED_OUTCOMES
from ..bulk.results import ItemT
from .errors import LedgerUnreadableError
from .input_copy import Spool
from .reader import LedgerReader

_ITEMS_PER_WRITE: Final = 1000


class IdSpool:
    """The spool of one run."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._is_new = False
        self._lines: BinaryIO | None = None

    def wrap_source(self, source: Source[ItemT]) -> Source[ItemT]:
        """Return a source that reads the copy of another source. The first read makes the copy if there is none."""
        items = cast("AsyncIterable[ItemT | SkippedItem[ItemT]]", self._read_items(source))
        return Source(items, source.get_id, source.get_content)

    def close(self, ledger: Path, *, is_refused: bool) -> None:
        """Close the copy. Remove it if no item can be sent again, or if it is new and the input was refused.

        Raise LedgerError if the ledger can't be read or the copy can't be removed.
        """
        if self._lines is not None:  # a stopped job hasn't read it to the end
            self._lines.close()
        if self._is_new and is_refused:
            self._spool.discard()
            return
        with LedgerReader(ledger) as reader:
            totals = reader.status().totals
            is_read = reader.job.items is not None
        if is_read and not any(totals.get(outcome) for outcome in UNFINISHED_OUTCOMES):
            self._spool.discard()

    async def _read_items(self, source: Source[ItemT]) -> AsyncIterator[str | SkippedItem[str]]:
        if not self._spool.is_filled:
            await _copy_input(self._spool, source)
            self._is_new = True
        with self._spool.open() as self._lines:
            for line in self._lines:
                read = json.loads(self._check_line(line))
                yield read if isinstance(read, str) else SkippedItem(read[0], Outcome(read[1]), exclude_list=read[2])

    def _check_line(self, line: bytes) -> bytes:
        """Return the content of a line of the copy. Raise LedgerUnreadableError if a byte of it has changed."""
        checksum, _, plain = line.removesuffix(b"\n").partition(b" ")
        if checksum != _compute_checksum(plain):
            raise LedgerUnreadableError(
                f"{self._spool.path}, the copy of the input, is damaged: restore it from a backup, or start again "
                "with another ledger"
            )
        return plain


async def _copy_input(spool: Spool, source: Source[ItemT]) -> None:
    with spool.writing() as write:
        async for items in _iter_batches(source.items):
            lines = (json.dumps(_serialize_item(item, source)).encode() for item in items)
            await asyncio.to_thread(write, b"".join(b"%s %s\n" % (_compute_checksum(line), line) for line in lines))


def _compute_checksum(line: bytes) -> bytes:
    """Return the checksum of a line, which detects changes on the disk. A changed ID would name another profile."""
    return b"%08x" % zlib.crc32(line)


def _serialize_item(item: ItemT | SkippedItem[ItemT], source: Source[ItemT]) -> str | tuple[str, str, str | None]:
    if isinstance(item, SkippedItem):
        return source.get_id(item.item), item.outcome, item.exclude_list
    return source.get_id(item)


async def _iter_batches(
    items: Iterable[ItemT | SkippedItem[ItemT]] | AsyncIterable[ItemT | SkippedItem[ItemT]],
) -> AsyncIterator[list[ItemT | SkippedItem[ItemT]]]:
    if isinstance(items, AsyncIterable):
        batch: list[ItemT | SkippedItem[ItemT]] = []
        async for item in items:
            batch.append(item)
            if len(batch) == _ITEMS_PER_WRITE:
                yield batch
                batch = []
        yield batch
        return
    source = iter(items)
    while batch := list(itertools.islice(source, _ITEMS_PER_WRITE)):
        yield batch
