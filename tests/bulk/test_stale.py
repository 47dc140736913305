"""A write that may have been executed isn't sent again more than 15 minutes later, whatever delayed it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from adapty_async import (
    AdaptyClient,
    AdaptyConnectionError,
    AdaptyError,
    ProfileAttributes,
    RateLimitError,
    Request,
    RetryPolicy,
    bulk,
)
from adapty_async.bulk import BulkJob, Outcome
from adapty_async.client import get_sender
from adapty_async.http.clocks import Moment

from ..virtual_time import virtual
from .scripted import NO_CONTENT, PROFILE, Answer, error, lost, scripted_client
from .served import LENIENT, now

ANN = ProfileAttributes(first_name="Ann")
CHANGE: list[tuple[str, ProfileAttributes]] = [("u0", ANN)]
PATIENT = RetryPolicy(max_attempts=1000, initial_backoff=1, max_backoff=1)
LATE, EARLY = 16 * 60.0, 14 * 60.0
Start = Callable[..., BulkJob[Any, Any]]
WRITES = pytest.mark.parametrize("start", [bulk.update_profiles, bulk.create_profiles])


class Clocks:
    """Clocks of a machine that only a test changes."""

    def __init__(self, client: AdaptyClient) -> None:
        self.wall = self.boot = 1_000_000.0
        get_sender(client).key_state.clock = lambda loop: Moment(self.wall, self.boot, loop)


def first_lost(second: Answer) -> Callable[[Any, int], Answer]:
    """Lose the response to the first request, respond to the second as given, and then with success."""
    return lambda request, number: {1: lost(), 2: second}.get(number, PROFILE)


def paused(job: BulkJob[Any, Any], seconds: float) -> AdaptyError:
    """Lose a response, and pause the job for this many seconds."""
    job.pause()
    asyncio.get_running_loop().call_later(seconds, job.unpause)
    return lost()


def starting(start: Start, script: Callable[[Any, int], Answer]) -> tuple[BulkJob[Any, Any], Any, Clocks]:
    client, transport = scripted_client(script, retry=PATIENT)
    return start(client, CHANGE, by="customer_user_id", stop=LENIENT), transport, Clocks(client)


@WRITES
@pytest.mark.parametrize(("seconds", "outcome"), [(EARLY, None), (LATE, Outcome.IN_DOUBT)])
@virtual
async def test_after_a_pause(start: Start, seconds: float, outcome: Outcome | None) -> None:
    job, transport, _ = starting(start, lambda request, number: paused(job, seconds) if number == 1 else PROFILE)
    (result,) = [result async for result in job]
    done = Outcome.UPDATED if start is bulk.update_profiles else Outcome.CREATED
    assert result.outcome is (outcome or done)
    assert len(transport.requests) == (1 if outcome else 2)
    if outcome:
        assert isinstance(result.error, AdaptyError)
        assert result.error.maybe_executed


@WRITES
@pytest.mark.parametrize(("retry_after", "requests"), [(700, 3), (1000, 2)])
@virtual
async def test_after_a_long_retry_after(start: Start, retry_after: int, requests: int) -> None:
    job, transport, _ = starting(start, first_lost(error(429, retry_after=str(retry_after))))
    report = await job
    assert len(transport.requests) == requests
    assert report.counts.get(Outcome.IN_DOUBT, 0) == (requests == 2)


@virtual
async def test_a_write_that_was_only_ever_refused_is_sent_however_late_it_is() -> None:
    client, transport = scripted_client(
        lambda request, number: error(429, retry_after="1500") if number == 1 else PROFILE, retry=PATIENT
    )
    report = await bulk.update_profiles(client, CHANGE, by="customer_user_id", stop=LENIENT)
    assert report.counts == {Outcome.UPDATED: 1}
    assert len(transport.requests) == 2


@virtual
async def test_a_deletion_is_sent_again_however_late_it_is() -> None:
    client, transport = scripted_client(
        lambda request, number: paused(job, 7200) if number == 1 else NO_CONTENT, retry=PATIENT
    )
    job = bulk.delete_profiles(client, ["u0"], by="customer_user_id", stop=LENIENT)
    assert (await job).counts == {Outcome.DELETED: 1}
    assert len(transport.requests) == 2


@virtual
async def test_after_an_outage_in_which_the_job_was_parked() -> None:
    """The job sends one trial request at a time, and doesn't repeat any of them after 15 minutes."""
    began = now()
    times: dict[str, list[float]] = {}

    def script(request: Any, number: int) -> Answer:
        times.setdefault(next(iter(request.headers.values())), []).append(now() - began)
        return PROFILE if now() - began > 3600 else lost()

    client, _ = scripted_client(script, retry=PATIENT)
    stop = bulk.StopRules(max_failure_ratio=None, max_outage=None)
    changes = [(f"u{number}", ANN) for number in range(60)]
    report = await bulk.update_profiles(client, changes, by="customer_user_id", stop=stop, concurrency=10)
    assert report.counts[Outcome.IN_DOUBT] >= 30
    assert sum(report.counts.values()) == 60
    assert all(tried[-1] - tried[0] <= 15 * 60 for tried in times.values())


@WRITES
@pytest.mark.parametrize("clock", ["wall", "boot"])
@pytest.mark.parametrize(("seconds", "requests"), [(EARLY, 2), (LATE, 1)])
@virtual
async def test_after_the_machine_was_suspended(start: Start, clock: str, seconds: float, requests: int) -> None:
    def script(request: Any, number: int) -> Answer:
        if number > 1:
            return PROFILE
        setattr(clocks, clock, getattr(clocks, clock) + seconds)
        return lost()

    job, transport, clocks = starting(start, script)
    report = await job
    assert len(transport.requests) == requests
    assert report.counts.get(Outcome.IN_DOUBT, 0) == (requests == 1)


@virtual
async def test_a_clock_that_is_set_back_hides_nothing_from_the_other() -> None:
    def script(request: Any, number: int) -> Answer:
        clocks.wall -= 7200
        clocks.boot += LATE
        return lost()

    job, transport, clocks = starting(bulk.update_profiles, script)
    assert (await job).counts == {Outcome.IN_DOUBT: 1}
    assert len(transport.requests) == 1


@virtual
async def test_it_is_looked_at_when_it_is_sent_and_not_when_it_begins_to_wait() -> None:
    """Two responses are lost. Their items wait in the send queue for the Retry-After of a third request."""

    def script(request: Any, number: int) -> Answer:
        who = next(iter(request.headers.values()))
        if who == "last":
            return error(429, retry_after="1000")
        return lost() if number == 1 else PROFILE

    client, transport = scripted_client(script, retry=PATIENT)
    changes = [(who, ANN) for who in ("u0", "u1", "last")]
    job = bulk.update_profiles(client, changes, by="customer_user_id", stop=LENIENT, concurrency=3)
    asyncio.get_running_loop().call_later(1500, job.stop)
    report = await job
    assert [who for _, who in transport.requests[:4]] == ["u0", "u1", "last", "last"]
    assert report.counts[Outcome.IN_DOUBT] == 2


# A single call, with a retry policy that lasts as long as a job


HOURS = RetryPolicy(max_attempts=10, max_elapsed=7200, initial_backoff=1, max_backoff=1)


@pytest.mark.parametrize(("retry_after", "requests"), [(700, 3), (1000, 2)])
@virtual
async def test_a_call_is_not_made_again_either(retry_after: int, requests: int) -> None:
    client, transport = scripted_client(first_lost(error(429, retry_after=str(retry_after))), retry=HOURS)
    began = now()
    if requests == 3:
        assert (await client.profiles.update(ANN, customer_user_id="u0")).app_id
    else:
        with pytest.raises(RateLimitError) as refusal:
            await client.profiles.update(ANN, customer_user_id="u0")
        assert refusal.value.maybe_executed
        assert refusal.value.attempts == 2
        assert now() - began < 60  # it doesn't wait for a retry that it won't make
    assert len(transport.requests) == requests


@pytest.mark.parametrize(("method", "requests"), [("PATCH", 1), ("PUT", 1), ("POST", 1), ("DELETE", 2), ("GET", 2)])
@virtual
async def test_of_other_calls_each_write_but_a_deletion_goes_stale(method: str, requests: int) -> None:
    def script(request: Any, number: int) -> Answer:
        clocks.boot += LATE  # the machine was suspended while the request was in flight
        return lost() if number == 1 else NO_CONTENT

    client, transport = scripted_client(script, retry=HOURS)
    clocks = Clocks(client)
    call = client.send(Request(method, "/api/v2/x", headers={"adapty-customer-user-id": "u0"}, idempotent=True))
    if requests == 2:
        assert (await call).status == 204
    else:
        with pytest.raises(AdaptyConnectionError) as failure:
            await call
        assert failure.value.maybe_executed
    assert len(transport.requests) == requests


@virtual
async def test_a_call_that_waits_at_the_gate_is_looked_at_when_it_is_sent() -> None:
    client, transport = scripted_client(
        lambda request, number: lost() if "u0" in request.headers.values() else error(429, retry_after="1000"),
        retry=HOURS,
    )
    call = asyncio.ensure_future(client.profiles.update(ANN, customer_user_id="u0"))
    other = asyncio.ensure_future(client.profiles.delete(customer_user_id="u1"))
    with pytest.raises(AdaptyConnectionError) as failure:
        await call
    other.cancel()
    assert failure.value.maybe_executed
    assert [who for _, who in transport.requests].count("u0") == 1
