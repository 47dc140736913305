"""The canary of a bulk job: the first items are completed and judged before the next one is started."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapty_async import UNPACED, Response, bulk
from adapty_async.bulk import Outcome, SkippedItem, StopReason, StopRules
from adapty_async.ledger import Ledger, LedgerReader

from ..virtual_time import virtual
from .scripted import ABSENT, NO_CONTENT, error, scripted_client
from .served import LENIENT, ids, served_client


@pytest.mark.parametrize("concurrency", [1, 7, 300])
@virtual
async def test_the_next_item_starts_when_the_last_of_the_canary_has_its_outcome(concurrency: int) -> None:
    async def serve(since: float) -> Response:
        number = len(server.sent)
        await asyncio.sleep(60 if number == 40 else 1)
        return error(503) if number == 41 else NO_CONTENT

    client, server = served_client(serve)
    rules = StopRules(canary=100)
    report = await bulk.delete_profiles(
        client, ids(500), by="customer_user_id", pacer=UNPACED, concurrency=concurrency, stop=rules
    )
    assert report.total == 500
    settled = sorted(server.succeeded)[99]
    assert settled >= 60
    assert server.sent[100] <= settled  # the one that was sent again
    assert server.sent[101] == settled


@virtual
async def test_a_canary_that_dies_ends_the_job_and_nothing_more_is_sent() -> None:
    client, transport = scripted_client(lambda request, number: ABSENT)
    report = await bulk.delete_profiles(client, ids(5000), by="customer_user_id", stop=StopRules(canary=30))
    assert report.stop_reason is StopReason.MAX_ABSENT_RATIO
    assert len(transport.requests) == 30


@pytest.mark.parametrize("canary", [1, 3, 10, 20])
@virtual
async def test_after_it_the_rules_are_judged_from_their_own_sample_on(canary: int) -> None:
    answers = [NO_CONTENT] * canary + [error(400)] * 15 + [NO_CONTENT] * 500
    client, transport = scripted_client(lambda request, number: answers[len(transport.requests) - 1])
    report = await bulk.delete_profiles(
        client, ids(500), by="customer_user_id", concurrency=1, stop=StopRules(canary=canary)
    )
    assert report.stop_reason is None
    assert report.counts == {Outcome.DELETED: 485, Outcome.FAILED: 15}


@virtual
async def test_what_was_decided_before_is_no_part_of_it() -> None:
    def items() -> Iterator[str | SkippedItem[str]]:
        for one in ids(200):
            yield SkippedItem(one, Outcome.DUPLICATE)
            yield one

    client, transport = scripted_client(lambda request, number: error(400))
    report = await bulk.delete_profiles(client, items(), by="customer_user_id", stop=StopRules(canary=50))
    assert report.stop_reason is StopReason.MAX_FAILURE_RATIO
    assert len(transport.requests) == 50


@virtual
async def test_an_input_shorter_than_the_canary_comes_to_its_end() -> None:
    client, _ = scripted_client(lambda request, number: NO_CONTENT)
    report = await bulk.delete_profiles(client, ids(5), by="customer_user_id", stop=StopRules(canary=100))
    assert report.counts == {Outcome.DELETED: 5}


async def test_with_a_ledger_which_reads_ahead(tmp_path: Path) -> None:
    client, transport = scripted_client(lambda request, number: ABSENT)
    path = tmp_path / "job.db"
    report = await bulk.delete_profiles(
        client, ids(5000), by="customer_user_id", stop=StopRules(canary=30), ledger=Ledger(path)
    )
    assert report.stop_reason is StopReason.MAX_ABSENT_RATIO
    assert len(transport.requests) == 30
    with LedgerReader(path) as reader:
        assert reader.status().counts == {Outcome.ALREADY_ABSENT: 30}


@pytest.mark.parametrize("canary", [-1, -0.5])
def test_less_than_nothing_is_refused(canary: int) -> None:
    with pytest.raises(ValueError, match="canary"):
        StopRules(canary=canary)
    assert LENIENT.canary is None
