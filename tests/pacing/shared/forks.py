"""Fork processes that share a pacer: some are killed in a transaction, some start at the same instant.

This runs in a process of its own, because a fork copies everything that the tests have created.
"""

import argparse
import itertools
import logging
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from adapty_async.pacing import SharedPacer, Verdict
from adapty_async.pacing.shared.state_file import StateFile


class _Warned(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr)
        os._exit(3)


def fork(work: Callable[[], None]) -> int:
    """Do the work in a child process. Return its process ID."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def send_for(pacer: SharedPacer, seconds: float) -> None:
    """Send as soon as possible, but at least five times. Print the numbers of the tickets."""
    ends = time.monotonic() + seconds
    numbers: list[int] = []
    while (now := time.monotonic()) < ends or len(numbers) < 5:
        wait = pacer.delay(now)
        if wait > 0:
            time.sleep(wait)
            continue
        ticket = pacer.acquire(now)
        numbers.append(ticket.number)
        pacer.record(now, ticket, Verdict.ACCEPTED)
    pacer.close()
    os.write(1, f"{' '.join(map(str, numbers))}\n".encode())


def transact_for_ever(path: Path, ready: int) -> None:
    """Make transactions without end. Report after five."""
    pacer = SharedPacer(path, start_rate=1000.0)
    for number in itertools.count(1):
        pacer.record(time.monotonic(), pacer.acquire(time.monotonic()), Verdict.UNKNOWN, 0.001)
        if number == 5:
            os.write(ready, b"r")


def kill_in_transactions(path: Path, kills: int) -> None:
    """Kill processes at random moments. After each kill, the state must be complete and unlocked."""
    rng = random.Random(7)  # noqa: S311 - repeatable, no secret
    pacer = SharedPacer(path, start_rate=1000.0)
    sent = 0
    ready, ready_there = os.pipe()
    for _ in range(kills):
        child = fork(lambda: transact_for_ever(path, ready_there))
        os.read(ready, 1)  # However slow the machine is, some transactions have been made.
        time.sleep(rng.uniform(0.001, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pacer.acquire(time.monotonic())
        before, sent = sent, pacer.snapshot().sent
        assert sent > before, "what had been committed is lost"
    pacer.close()
    assert sent > 5 * kills, "what had been committed is lost"


def start_together(path: Path, number: int) -> None:
    """Start processes on a missing file at the same instant."""
    begins = time.monotonic() + 0.1

    def work() -> None:
        time.sleep(max(0.0, begins - time.monotonic()))
        send_for(SharedPacer(path, start_rate=200.0), 0.5)

    _wait_for([fork(work) for _ in range(number)])


def fork_while_in_use(path: Path, number: int) -> None:
    """Fork a process that has used its pacer. The parent and the children continue to use it."""
    pacer = SharedPacer(path, start_rate=200.0)
    pacer.acquire(time.monotonic())
    children = [fork(lambda: send_for(pacer, 0.5)) for _ in range(number)]
    send_for(pacer, 0.5)
    _wait_for(children)


def kill_a_parent_in_a_transaction(path: Path, number: int) -> None:
    """Kill a process that has the lock, after it forked children that live on. No process may then have the lock."""
    ready, ready_there = os.pipe()
    ends_there, ends = os.pipe()

    def idle() -> None:
        os.close(ends)
        os.write(ready_there, b"r")
        os.read(ends_there, 1)

    def parent() -> None:
        pacer = SharedPacer(path, start_rate=200.0)
        pacer.acquire(time.monotonic())
        assert pacer._member is not None  # noqa: SLF001 - it is a member, and in a transaction
        assert pacer._member._file.try_lock()  # noqa: SLF001 - see above
        for _ in range(number):
            fork(idle)
        os.kill(os.getpid(), signal.SIGKILL)

    killed = fork(parent)
    os.waitpid(killed, 0)
    assert sum(len(os.read(ready, 1)) for _ in range(number)) == number
    assert StateFile(path).try_lock(), "a child has the lock of a parent that was killed"
    os.close(ends)


def fork_beside_a_thread(path: Path, number: int) -> None:
    """Fork while a thread uses the pacer. The children use it, too, although they don't have that thread."""
    pacer = SharedPacer(path, start_rate=200.0)
    sys.setswitchinterval(1e-6)

    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            pacer.delay(time.monotonic())

    def work() -> None:
        signal.alarm(10)  # ends the thread
        pacer.delay(time.monotonic())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(number):
            _wait_for([fork(work)])
    finally:
        is_over.set()
        thread.join()


def _wait_for(children: list[int]) -> None:
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0


WHAT: Final = {
    "kill": kill_in_transactions,
    "together": start_together,
    "fork": fork_while_in_use,
    "thread": fork_beside_a_thread,
    "orphans": kill_a_parent_in_a_transaction,
}


def main() -> None:
    """Read the arguments and fork."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("path", type=Path)
    parser.add_argument("number", type=int)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)  # the tests fork on purpose
    logging.getLogger("adapty_async").addHandler(_Warned(logging.WARNING))
    WHAT[arguments.what](arguments.path, arguments.number)


if __name__ == "__main__":
    main()
