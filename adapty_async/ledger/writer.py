"""The thread that commits a ledger session, so that the event loop never waits for the disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .run_state import Book

T = TypeVar("T")


async def outlasting(work: "asyncio.Future[T]") -> T:
    """Wait for work that is done soon, even if the caller is cancelled. Then raise the cancellation."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # retrieved, so that asyncio doesn't log it
        raise cancelled
    return work.result()


class Writer:
    """Makes one commit at a time and reads between commits. Changes made during a commit go into the next one.

    If a commit fails, all of its callers get the error. The next commit tries to write the same changes too.
    """

    def __init__(self, open_book: Callable[[], Book]) -> None:
        self._loop = asyncio.get_running_loop()
        self._open_book = open_book
        self._thread = ThreadPoolExecutor(1, "adapty_async ledger writer")
        self._under_way: asyncio.Future[None] | None = None  # for the callers of the current commit
        self._next: asyncio.Future[None] | None = None  # for the callers of the next one

    async def start(self) -> Book:
        """Open the ledger session. Raise LedgerError."""
        opening = self._loop.run_in_executor(self._thread, self._open_book)
        try:
            self._book = await outlasting(opening)
        except BaseException:
            if not opening.cancelled() and opening.exception() is None:
                opening.result().close()
            self._thread.shutdown()
            raise
        return self._book

    def read(self, do: Callable[[], T]) -> "asyncio.Future[T]":
        """Run a function that reads from the disk, between two commits."""
        return self._loop.run_in_executor(self._thread, do)

    def commit(self) -> "asyncio.Future[None]":
        """Return a future that is done when all present changes are on the disk. It fails with LedgerError."""
        asked = self._next
        if asked is None:
            asked = self._next = self._loop.create_future()
        if self._under_way is None:
            self._write()
        return asked

    async def close(self) -> None:
        """Commit the remaining changes, close the ledger session and end the thread. Raise LedgerError."""
        try:
            await outlasting(self.commit())
        finally:
            await outlasting(self._loop.run_in_executor(self._thread, self._book.close))
            self._thread.shutdown()

    def _write(self) -> None:
        asked, self._next = self._next, None
        assert asked is not None
        writing = self._book.draw_up()
        if writing is None:
            asked.set_result(None)
            return
        self._under_way = asked
        writes = self._loop.run_in_executor(self._thread, self._book.write, writing)
        writes.add_done_callback(self._have_written)

    def _have_written(self, writes: "asyncio.Future[None]") -> None:
        asked, self._under_way = self._under_way, None
        assert asked is not None
        error = writes.exception()
        if error is None:
            self._book.written()
            asked.set_result(None)
        else:
            self._book.not_written()
            asked.set_exception(error)
            asked.exception()  # retrieved, so that asyncio doesn't log it if no caller awaits it
        if self._next is not None:
            self._write()
