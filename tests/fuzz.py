"""Every operation of the client against invalid and unusual responses, over a real socket.

A run is repeatable by its seed, and a case by its number: `python -m tests.fuzz --seed S --case N`.
"""

import argparse
import asyncio
import collections
import gc
import html
import json
import logging
import pickle
import random
import resource
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, quote_plus

import attrs

from adapty_async import AdaptyClient, AdaptyError, Profile, ProfileAttributes, Request, Response, RetryPolicy

from .leftovers import tasks_left
from .odd_answers import OddAnswer, odd_answer
from .raw_server import RawServer, hang_up, reset, silence

KEY: Final = "secret_live_Fuzz.0f1e2d3c"
AT_ONCE: Final = 16
TIMEOUT: Final = 1.0
# Two attempts of one second each, on a busy machine.
HANGS_AFTER: Final = 120.0
SAMPLES: Final = 50
POLICY: Final = RetryPolicy(max_attempts=2, max_elapsed=0.5, initial_backoff=0.001, max_backoff=0.001)
_NAMED: Final = ProfileAttributes(first_name="Ann")

_SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (
    str,
    quote,
    quote_plus,
    html.escape,
    lambda text: json.dumps(text)[1:-1],
    lambda text: text.encode().decode("latin-1"),
    lambda text: text.encode("ascii", "backslashreplace").decode(),
)
_OPERATIONS: Final[tuple[tuple[str, Callable[[AdaptyClient, str], Awaitable[object]], type], ...]] = (
    ("GET", lambda client, name: client.profiles.get(customer_user_id=name), Profile),
    ("POST", lambda client, name: client.profiles.create(customer_user_id=name), Profile),
    ("PATCH", lambda client, name: client.profiles.update(_NAMED, customer_user_id=name), Profile),
    ("DELETE", lambda client, name: client.profiles.delete(customer_user_id=name), bool),
    ("DELETE", lambda client, name: client.profiles.delete(customer_user_id=name, missing_ok=True), bool),
    ("GET", lambda client, name: client.send(_request("GET", name)), Response),
    ("POST", lambda client, name: client.send(_request("POST", name, body={"a": 1})), Response),
    ("PUT", lambda client, name: client.send(_request("PUT", name, body=b"x", idempotent=False)), Response),
)


def _request(method: str, name: str, **others: Any) -> Request:
    return Request(method, "/api/v2/x", headers={"adapty-customer-user-id": name}, **others)


@attrs.define
class Case:
    """A client of its own, and the calls that it makes one after the other."""

    rng: random.Random
    name: str
    method: str = ""
    answered: int = 0

    @classmethod
    def of(cls, seed: int, number: int) -> "Case":
        return cls(random.Random(f"{seed}/{number}"), f"Zoë fuzzed-{number}@example.com")  # noqa: S311 - no secret


@attrs.define
class Run:
    """The results of a run so far."""

    seed: int
    answers: int = 0
    calls: int = 0
    slowest: float = 0.0
    ends: collections.Counter[str] = attrs.field(factory=collections.Counter[str])
    problems: list[str] = attrs.field(factory=list[str])
    memory: list[int] = attrs.field(factory=list[int])
    """The blocks that Python had in use, at `SAMPLES` moments."""

    def found(self, number: int, problem: str) -> None:
        self.problems.append(
            f"case {number}: {problem}\n  again: python -m tests.fuzz --seed {self.seed} --case {number}"
        )

    @property
    def growth(self) -> float:
        """The growth of the memory in use, from the second tenth of the run to the last."""
        tenth = max(1, len(self.memory) // 10)
        return min(self.memory[-tenth:]) / min(self.memory[tenth : 2 * tenth]) - 1.0


class _Watch(logging.Handler):
    """Keep every log message of any level, to search it for secrets."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@contextmanager
def _watched_logs() -> Iterator[_Watch]:
    """Replace all log handlers: one that keeps the messages, such as pytest's, would look like a leak."""
    watch = _Watch()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = list[logging.Handler]([watch])
    root.setLevel(logging.DEBUG)
    try:
        yield watch
    finally:
        root.handlers = handlers
        root.setLevel(level)


async def fuzz(seed: int, *, answers: int, only: int | None = None) -> Run:
    """Run cases until this many responses were sent, or only one case."""
    run = Run(seed)
    cases: dict[str, Case] = {}

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        case = cases.get(server.requests.pop().headers["adapty-customer-user-id"].decode())
        if case is None:
            raise EOFError  # its client has given up and is gone
        case.answered += 1
        await _write(odd_answer(case.rng, (KEY, case.name), method=case.method), reader, writer)

    async def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            await _play(Case.of(seed, number), number, run, server.base_url, cases)
            _look_into_logs(watch, number, run)
            _measure(run, answers)

    numbers = _numbers(run, answers) if only is None else iter([only])
    with _watched_logs() as watch:
        async with RawServer(reply) as server:
            await asyncio.gather(*(work(numbers) for _ in range(AT_ONCE)))
        await asyncio.sleep(0)
        run.problems += [f"left running: {name}" for name in tasks_left()]
    return run


async def _write(odd: OddAnswer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for piece in odd.pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    ends = {"close": hang_up, "reset": reset, "silence": silence}
    if odd.end != "keep":
        await ends[odd.end](reader, writer)


def _numbers(run: Run, answers: int) -> Iterator[int]:
    number = 0
    while run.answers < answers and len(run.problems) < 20:
        yield number
        number += 1


def _measure(run: Run, answers: int) -> None:
    if run.answers >= (len(run.memory) + 1) * answers // SAMPLES:
        gc.collect()
        run.memory.append(sys.getallocatedblocks())


async def _play(case: Case, number: int, run: Run, base_url: str, cases: dict[str, Case]) -> None:
    async with AdaptyClient(KEY, base_url=base_url, timeout=TIMEOUT, retry=POLICY) as client:
        for call_number in range(3):
            case.method, call, kind = case.rng.choice(_OPERATIONS)
            # A name per call: the server may read the request of a call that timed out during the next one.
            case.name, case.answered = f"Zoë fuzzed-{number}-{call_number}@example.com", 0
            cases[case.name] = case
            began = time.perf_counter()
            try:
                problem, end = await _judge(call(client, case.name), case, kind)
            except Exception as error:  # noqa: BLE001 - any exception that escapes is a finding
                problem, end = f"escaped: {error!r}", type(error).__name__
            del cases[case.name]
            run.slowest = max(run.slowest, time.perf_counter() - began)
            run.calls += 1
            run.answers += case.answered
            run.ends[end] += 1
            if problem:
                run.found(number, f"{case.method}: {problem}")
            if not case.answered:  # the send queue is blocked by a Retry-After
                return


async def _judge(call: Awaitable[object], case: Case, kind: type) -> tuple[str, str]:
    """Return the error in the result of a call, if any, and the kind of result."""
    patience = asyncio.timeout(HANGS_AFTER)
    try:
        async with patience:
            value = await call
    except AdaptyError as error:
        return _wrong_with_error(error, case), type(error).__name__
    except TimeoutError:
        if not patience.expired():
            raise
        return f"no end after {HANGS_AFTER:g} s", "hang"
    if type(value) is not kind:
        return f"returned a {type(value).__name__}", "wrong value"
    if isinstance(value, Response) and not 200 <= value.status < 300:
        return f"returned a response with status {value.status}", "wrong value"
    return ("a secret in the repr of the value" if _shows_secret(repr(value), case.name) else ""), kind.__name__


def _wrong_with_error(error: AdaptyError, case: Case) -> str:
    pickled = pickle.dumps(error)
    shown = [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    if any(_shows_secret(text, case.name) for text in [*shown, pickled.decode("utf-8", "replace")]):
        return f"a secret in {error!r} {vars(error)}"
    if error.__cause__ is not None or error.__context__ is not None:
        return f"{type(error).__name__} has a cause or a context"
    if str(pickle.loads(pickled)) != str(error) or not str(error).isprintable():  # noqa: S301 - our own
        return f"{type(error).__name__} has an unprintable message, or pickle changes it"
    if not case.answered <= error.attempts <= POLICY.max_attempts:
        return f"{error.attempts} attempts, {case.answered} requests"
    return ""


def _shows_secret(text: str, name: str) -> bool:
    found = text.lower()
    return any(spell(secret).lower() in found for secret in (KEY, name) for spell in _SPELLINGS)


def _look_into_logs(watch: _Watch, number: int, run: Run) -> None:
    for said in watch.said:  # by this case, or by one that was running at the same time
        if "fuzzed-" in said or KEY in said or "Traceback" in said:
            run.found(number, f"logged: {said}")
    watch.said.clear()


def report(run: Run, seconds: float) -> str:
    """Describe a run."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = [
        f"seed {run.seed}: {run.answers} responses to {run.calls} calls in {seconds:.0f} s",
        f"the slowest call: {run.slowest:.2f} s; the peak memory reported by the system: {peak}",
        *(f"  {count:7} {end}" for end, count in run.ends.most_common()),
    ]
    if len(run.memory) >= 10:
        lines.append(f"memory in use, from the second tenth to the last: {run.growth:+.1%}")
    return "\n".join([*lines, *run.problems])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--case", type=int, help="run only this case of the seed")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.perf_counter()
    run = asyncio.run(fuzz(options.seed, answers=options.answers, only=options.case))
    print(report(run, time.perf_counter() - began))
    sys.exit(1 if run.problems or (len(run.memory) >= 10 and run.growth > 0.05) else 0)


if __name__ == "__main__":
    main()
