"""The number of items claimed at once, depending on how fast the previous ones were sent. Times are passed in."""

from collections.abc import Sequence

import pytest

from adapty_async.ledger.session import _ClaimSizer


def sizes(gaps: Sequence[float], *, unsent: int = 0, took: float = 0.001) -> list[int]:
    """Make a claim after each gap and have it written. Return the numbers of claimed items."""
    ahead, now, found = _ClaimSizer(), 1000.0, []
    for gap in gaps:
        now += gap
        found.append(ahead.next_size(now, unsent))
        ahead.record_claim(now + took, unsent)
    return found


def test_the_first_claim_is_small() -> None:
    assert sizes([1.0]) == [10]


@pytest.mark.parametrize(("gap", "factor"), [(0.01, 4), (0.019, 4), (0.021, 2), (0.09, 2), (0.11, 1), (0.29, 1)])
def test_what_leaves_in_a_moment_is_followed_by_more(gap: float, factor: int) -> None:
    assert sizes([0.0, gap, gap]) == [10, 10 * factor, 10 * factor**2]


def test_what_has_not_left_yet_is_followed_by_no_more() -> None:
    assert sizes([0.0, 0.01], unsent=2) == [10, 40]
    assert sizes([0.0, 0.01], unsent=3) == [10, 10]


def test_what_takes_long_to_leave_is_followed_by_less_but_never_by_none() -> None:
    assert sizes([0.0, 0.31, 0.31, 0.31, 0.31]) == [10, 5, 2, 2, 2]


def test_there_are_never_more_than_four_thousand() -> None:
    assert sizes([0.0, *[0.01] * 6]) == [10, 40, 160, 640, 2560, 4000, 4000]


def test_a_slow_disk_is_asked_for_more_if_nothing_was_left_to_send_meanwhile() -> None:
    assert sizes([0.0, 0.5, 0.5], took=0.06) == [10, 20, 40]
    assert sizes([0.0, 0.2, 0.2], took=0.06, unsent=1) == [10, 10, 10]
    assert sizes([0.0, 0.5, 0.5], took=0.2, unsent=1) == [10, 10, 10]  # the delay is the disk's
