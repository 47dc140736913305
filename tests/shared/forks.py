"""Fork processes that share a pacer: who is killed in a transaction, who begins at the same instant.

In a process of its own, as a fork copies all that the tests have made.
"""

import argparse
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from adapty_async.pacing import SharedPacer, Verdict


class _Warned(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr)
        os._exit(3)


def fork(work: Callable[[], None]) -> int:
    """Do the work in a child; give its process id."""
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
    """Send as soon as it is allowed; print the numbers of the tickets."""
    ends = time.monotonic() + seconds
    numbers = []
    while (now := time.monotonic()) < ends:
        wait = pacer.wait(now)
        if wait > 0:
            time.sleep(min(wait, max(0.0, ends - now)))
            continue
        ticket = pacer.sent(now)
        numbers.append(ticket.number)
        pacer.heard(now, ticket, Verdict.ACCEPTED)
    pacer.close()
    os.write(1, f"{' '.join(map(str, numbers))}\n".encode())


def transact_for_ever(path: Path) -> None:
    """Do nothing but transactions."""
    pacer = SharedPacer(path, start_rate=1000.0)
    while True:
        pacer.heard(time.monotonic(), pacer.sent(time.monotonic()), Verdict.UNKNOWN, 0.001)


def kill_in_transactions(path: Path, kills: int) -> None:
    """Kill processes at random moments; after each kill the state must be whole, and open."""
    rng = random.Random(7)  # noqa: S311 - repeatable, no secret
    pacer = SharedPacer(path, start_rate=1000.0)
    sent = 0
    for _ in range(kills):
        child = fork(lambda: transact_for_ever(path))
        time.sleep(rng.uniform(0.001, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pacer.sent(time.monotonic())
        before, sent = sent, pacer.snapshot().sent
        assert sent > before, "what had been committed is lost"
    pacer.close()
    assert sent > 5 * kills, "the children were killed before they did anything"


def start_together(path: Path, number: int) -> None:
    """Start processes on a missing file at the same instant."""
    begins = time.monotonic() + 0.1

    def work() -> None:
        time.sleep(max(0.0, begins - time.monotonic()))
        send_for(SharedPacer(path, start_rate=200.0), 0.5)

    _wait_for([fork(work) for _ in range(number)])


def fork_while_in_use(path: Path, number: int) -> None:
    """Fork a process that has used its pacer; parent and children go on with it."""
    pacer = SharedPacer(path, start_rate=200.0)
    pacer.sent(time.monotonic())
    children = [fork(lambda: send_for(pacer, 0.5)) for _ in range(number)]
    send_for(pacer, 0.5)
    _wait_for(children)


def _wait_for(children: list[int]) -> None:
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0


def main() -> None:
    """Read the arguments and fork."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kill", "together", "fork"])
    parser.add_argument("path", type=Path)
    parser.add_argument("number", type=int)
    arguments = parser.parse_args()
    logging.getLogger("adapty_async").addHandler(_Warned(logging.WARNING))
    what = {"kill": kill_in_transactions, "together": start_together, "fork": fork_while_in_use}[arguments.what]
    what(arguments.path, arguments.number)


if __name__ == "__main__":
    main()
