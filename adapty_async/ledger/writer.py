"""The one thread that keeps the book, so that the event loop never waits for a disk."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import attrs

from .book import Book

T = TypeVar("T")

_END: Final = None


@attrs.frozen
class _Order(Generic[T]):
    """Something to do with the book, and who waits for what comes of it."""

    do: Callable[[Book], T]
    answer: "asyncio.Future[T]"


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
    """Do with a book what the loop asks for, in order, and answer when it is committed.

    What has come in meanwhile is committed together. Where a commit fails everybody who waits for it is told; what is
    in the book stays there, and the next commit tries to write it as well.
    """

    def __init__(self, open_book: Callable[[], Book]) -> None:
        self._loop = asyncio.get_running_loop()
        self._orders: queue.SimpleQueue[_Order[object] | None] = queue.SimpleQueue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._keep, args=(open_book,), name="adapty_async ledger writer", daemon=True
        )

    async def start(self) -> None:
        """Open the book. Raises LedgerError."""
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            await self.close()
            raise

    def ask(self, do: Callable[[Book], T]) -> "asyncio.Future[T]":
        """Have something done, and committed."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._orders.put(_Order(do, answer))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - a queue of orders of any kind
        return answer

    async def close(self) -> None:
        """Commit what is left, and end the thread. Raises LedgerError where that fails."""
        self._orders.put(_END)
        try:
            await outlasting(self._closed)
        finally:
            self._thread.join()  # to have told was its last act

    def _keep(self, open_book: Callable[[], Book]) -> None:
        try:
            book = open_book()
        except BaseException as error:  # noqa: BLE001 - it is for the one who waits
            self._tell(self._opened, error=error)
            self._tell(self._closed)
            return
        self._tell(self._opened)
        failure: BaseException | None = None
        try:
            while self._carry_out(book, self._waiting()):
                pass
        except BaseException as error:  # noqa: BLE001 - it is for the one who waits
            failure = error
        finally:
            book.close()
            self._tell(self._closed, error=failure)

    def _waiting(self) -> list[_Order[object] | None]:
        """Wait for an order, and take those that have come in with it."""
        orders = [self._orders.get()]
        with contextlib.suppress(queue.Empty):
            while orders[-1] is not _END:
                orders.append(self._orders.get_nowait())
        return orders

    def _carry_out(self, book: Book, orders: list[_Order[object] | None]) -> bool:
        """Carry out orders and commit; tell whether there may be more."""
        is_last = orders[-1] is _END
        done: list[tuple[_Order[object], object]] = []
        for order in filter(None, orders):
            try:
                done.append((order, order.do(book)))
            except Exception as error:  # noqa: BLE001 - it is for the one who waits
                self._tell(order.answer, error=error)
        try:
            book.commit()
        except Exception as error:
            for order, _ in done:
                self._tell(order.answer, error=error)
            if is_last:
                raise
        else:
            for order, value in done:
                self._tell(order.answer, value)
        return not is_last

    def _tell(self, answer: "asyncio.Future[T]", value: T | None = None, error: BaseException | None = None) -> None:
        def tell() -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - None where T is None
            else:
                answer.set_exception(error)
                answer.exception()  # nobody has to ask for it; unasked, asyncio would write it to its log

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(tell)
