"""Outcomes and reports: pure functions."""

import pickle
from collections import Counter
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async import BulkFailedError
from adapty_async.bulk import BulkReport, ItemResult, Outcome, StopReason
from adapty_async.bulk.results import JobStats


def _result(position: int, outcome: Outcome) -> ItemResult[str, None]:
    return ItemResult(position, f"person-{position}@example.com", outcome, None, None, 1, 0.1)


def _report(tally: JobStats, seconds: float = 1.0, *, stopped: StopReason | None = None) -> BulkReport:
    return tally.build_report(seconds, uncommitted_counts={}, stop_reason=stopped, input_exhausted=True)


def _tally(*outcomes: Outcome) -> JobStats:
    tally = JobStats()
    tally.start(0.0)
    for position, outcome in enumerate(outcomes):
        result = _result(position, outcome)
        tally.counts[outcome] += 1
        tally.sample_size += 1
        if outcome.is_failure:
            tally.keep_failure(result)
    return tally


def test_the_names_of_the_outcomes_are_the_contract() -> None:
    assert {str(outcome) for outcome in Outcome} == {
        "deleted", "updated", "created", "fetched", "succeeded", "already_absent", "deleted_unconfirmed",
        "duplicate", "excluded", "not_found", "invalid", "failed", "in_doubt", "not_attempted",
    }  # fmt: skip
    assert {str(outcome) for outcome in Outcome if outcome.is_failure} == {
        "not_found", "invalid", "failed", "in_doubt", "not_attempted",
    }  # fmt: skip


def test_a_report_says_in_utc_when_the_job_ran() -> None:
    before = datetime.now(UTC)
    tally = _tally()
    assert _report(tally).finished is None
    tally.finish(1.0)
    report = _report(tally)
    assert report.started is not None
    assert report.finished is not None
    assert before <= report.started <= report.finished <= datetime.now(UTC)


@given(st.lists(st.sampled_from(list(Outcome)), max_size=60))
def test_a_report_counts_every_item_and_keeps_the_first_and_last_ten_failures(outcomes: list[Outcome]) -> None:
    report = _report(_tally(*outcomes))
    failures = [position for position, outcome in enumerate(outcomes) if outcome.is_failure]
    assert report.counts == Counter(outcomes)
    assert report.total == len(outcomes)
    assert report.failed == len(failures)
    expected = failures if len(failures) <= 20 else failures[:10] + failures[-10:]
    assert [failure.position for failure in report.failures] == expected


@given(st.lists(st.floats(min_value=1e-4, max_value=100.0), min_size=1, max_size=200))
def test_latency_quantiles_are_right_to_3_percent(seconds: list[float]) -> None:
    tally = _tally()
    for value in seconds:
        tally.record_request(1, value)
    latency = _report(tally).latency
    assert latency is not None
    ordered = sorted(seconds)
    for share, shown in ((0.5, latency.p50), (0.9, latency.p90), (0.99, latency.p99)):
        true = next(value for rank, value in enumerate(ordered, 1) if rank >= share * len(ordered))
        assert shown == pytest.approx(true, rel=0.03)
    assert latency.max == ordered[-1]


def test_requests_without_an_answer_have_no_latency() -> None:
    tally = _tally()
    tally.record_request(1, None)
    report = _report(tally, 10.0)
    assert (report.latency, report.requests, report.rate) == (None, 1, 0.1)


def test_raise_for_failures_says_how_many_of_what_and_why_it_stopped_but_not_who() -> None:
    tally = _tally(Outcome.DELETED, Outcome.FAILED, Outcome.IN_DOUBT)
    with pytest.raises(BulkFailedError) as caught:
        _report(tally, stopped=StopReason.MAX_FAILURES).raise_for_failures()
    assert str(caught.value) == "2 of 3 items failed (1 failed, 1 in_doubt); stopped: max_failures"
    assert caught.value.maybe_executed
    restored = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert str(restored) == str(caught.value)
    assert restored.report.counts == caught.value.report.counts  # type: ignore[attr-defined]  # declared as object


def test_a_report_of_which_that_is_not_said_has_nothing_under_way() -> None:
    report = _report(_tally(Outcome.DELETED))
    assert (report.in_flight, report.awaiting_retry) == (0, 0)
    said = {
        field.name: getattr(report, field.name) for field in attrs.fields(BulkReport) if field.default is attrs.NOTHING
    }
    assert BulkReport(**said) == report


def test_raise_for_failures_is_silent_where_all_went_well() -> None:
    _report(_tally(Outcome.DELETED, Outcome.ALREADY_ABSENT)).raise_for_failures()


def test_no_repr_shows_an_id() -> None:
    report = _report(_tally(Outcome.FAILED))
    assert "person" not in repr(report)
    assert "failed" in repr(report)
