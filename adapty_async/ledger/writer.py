"""Writes down what a book holds, in a thread of its own, so that the event loop never waits for a disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .book import Book

T = TypeVar("T")


async def outlasting(work: "asyncio.Future[T]") -> T:
    """Wait for what is done soon, also where the waiting is cancelled: that passes through when it is done."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # nobody asks for it any more
        raise cancelled
    return work.result()


class Writer:
    """Make one commit of a book at a time, and read from it in between; what is new meanwhile goes with the next.

    Where a commit fails everybody who waits for it is told; the next one tries to write the same as well.
    """

    def __init__(self, open_book: Callable[[], Book]) -> None:
        self._loop = asyncio.get_running_loop()
        self._open_book = open_book
        self._thread = ThreadPoolExecutor(1, "adapty_async ledger writer")
        self._under_way: asyncio.Future[None] | None = None  # for who waits for the commit that is made
        self._next: asyncio.Future[None] | None = None  # and for the one after it

    async def start(self) -> Book:
        """Open the book. Raises LedgerError."""
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
        """Have something done that reads what the disk holds, between two commits."""
        return self._loop.run_in_executor(self._thread, do)

    def commit(self) -> "asyncio.Future[None]":
        """Have all that is new in the book by now written; it is done when that is on the disk. Raises LedgerError."""
        asked = self._next
        if asked is None:
            asked = self._next = self._loop.create_future()
        if self._under_way is None:
            self._write()
        return asked

    async def close(self) -> None:
        """Commit what is left, let go of the book, and end the thread. Raises LedgerError where the commit fails."""
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
            asked.exception()  # nobody has to ask for it; unasked, asyncio would write it to its log
        if self._next is not None:
            self._write()
