"""Outcomes, stop rules and reports: pure functions."""

import pickle
from collections import Counter
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async import BulkFailedError
from adapty_async.bulk import BulkReport, ItemResult, Outcome, StopReason, StopRules
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


def test_the_names_of_the_stop_reasons_are_the_rules_and_three_more() -> None:
    rules = {field.name for field in attrs.fields(StopRules)} - {"min_sample", "canary"}
    assert {str(reason) for reason in StopReason} == rules | {"credentials", "permission", "requested", "closed"}


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({Outcome.DELETED: 80, Outcome.FAILED: 20}, None),
        ({Outcome.DELETED: 79, Outcome.FAILED: 21}, StopReason.MAX_FAILURE_RATIO),
        ({Outcome.DELETED: 78, Outcome.FAILED: 21}, None),  # 99 items: too few to judge
        ({Outcome.DELETED: 50, Outcome.ALREADY_ABSENT: 50}, None),
        ({Outcome.DELETED: 49, Outcome.ALREADY_ABSENT: 51}, StopReason.MAX_ABSENT_RATIO),
        ({Outcome.DELETED: 49, Outcome.DELETED_UNCONFIRMED: 51}, None),
        ({Outcome.DELETED: 100, Outcome.NOT_ATTEMPTED: 900}, None),
    ],
)
def test_shares_are_judged_from_the_minimum_sample_on(counts: dict[Outcome, int], reason: StopReason | None) -> None:
    assert StopRules().check(counts) is reason


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({Outcome.DELETED: 7, Outcome.FAILED: 3}, StopReason.MAX_FAILURE_RATIO),
        ({Outcome.DELETED: 6, Outcome.FAILED: 3}, None),  # 9 items: too few even at the end
        ({Outcome.ALREADY_ABSENT: 10}, StopReason.MAX_ABSENT_RATIO),
        ({}, None),
    ],
)
def test_at_the_end_shares_are_judged_from_ten_items_on(counts: dict[Outcome, int], reason: StopReason | None) -> None:
    assert StopRules().check(counts, at_end=True) is reason


def test_max_failures_is_how_many_are_still_accepted() -> None:
    rules = StopRules(max_failures=2)
    assert rules.check({Outcome.FAILED: 2}) is None
    assert rules.check({Outcome.FAILED: 2, Outcome.INVALID: 1}) is StopReason.MAX_FAILURES
    assert StopRules(max_failures=0).check({Outcome.FAILED: 1}) is StopReason.MAX_FAILURES


def test_none_switches_a_rule_off() -> None:
    rules = StopRules(max_failure_ratio=None, max_absent_ratio=None)
    assert rules.check({Outcome.FAILED: 500, Outcome.ALREADY_ABSENT: 5000}, at_end=True) is None


@pytest.mark.parametrize("name", ["max_failure_ratio", "max_absent_ratio"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be a number from 0 to 1, or None$"):
        StopRules(**{name: value})  # type: ignore[arg-type]  # one of the two


@pytest.mark.parametrize("name", ["max_failures", "min_sample", "max_outage", "max_throttled"])
def test_a_negative_bound_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must not be negative$"):
        StopRules(**{name: -1})


@pytest.mark.parametrize("name", ["max_failures", "min_sample", "max_outage", "max_throttled", "max_failure_ratio"])
def test_a_bound_of_nothing_is_a_bound(name: str) -> None:
    assert getattr(StopRules(**{name: 0}), name) == 0


def test_the_rules_that_hold_where_none_is_named() -> None:
    assert attrs.asdict(StopRules()) == {
        "max_failures": None,
        "max_failure_ratio": 0.2,
        "max_absent_ratio": 0.5,
        "min_sample": 100,
        "max_outage": 900.0,
        "max_throttled": 1800.0,
        "canary": None,
    }


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
