"""The options --pace and --max-rate."""

import pytest

from adapty_async import AdaptivePacer, FixedPacer
from adapty_async.cli.exits import CommandError
from adapty_async.cli.pace import Pace


def test_a_number_is_a_fixed_rate_and_max_rate_bounds_it() -> None:
    assert repr(Pace.of("50", None).pacer()) == "FixedPacer(50)"
    assert repr(Pace.of("50", 20).pacer()) == "FixedPacer(20)"
    assert repr(Pace.of("50", 80).pacer()) == "FixedPacer(50)"
    assert isinstance(Pace.of("0.5", None).pacer(), FixedPacer)


@pytest.mark.parametrize("pace", ["", "fast", "0", "-1", "nan", "inf", "5/s"])
def test_a_pace_that_is_none_is_refused_with_what_it_may_be(pace: str) -> None:
    with pytest.raises(CommandError, match="--pace must be full, background, or a positive number"):
        Pace.of(pace, None)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("pace", ["full", "background", "50"])
def test_a_max_rate_that_is_none_is_refused(pace: str, rate: float) -> None:
    with pytest.raises(CommandError, match="--max-rate must be a positive number"):
        Pace.of(pace, rate)


@pytest.mark.parametrize("pace", ["full", "background"])
def test_the_limit_is_looked_for_and_max_rate_bounds_that(pace: str) -> None:
    pacer = Pace.of(pace, 3).pacer()
    assert isinstance(pacer, AdaptivePacer)
    assert pacer.rate == 3
