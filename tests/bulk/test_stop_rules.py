"""Stop rules: pure functions."""

import attrs
import pytest

from adapty_async.bulk import Outcome, StopReason, StopRules


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
