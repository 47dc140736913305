"""The short form of `make fuzz`."""

import random

import pytest

from .fuzz import KEY, Run, fuzz, report
from .odd_answers import odd_answer


@pytest.mark.no_cover  # the same lines run again and again
async def test_under_any_answer_only_our_errors_escape_nothing_hangs_and_nothing_is_told() -> None:
    run = await fuzz(1, answers=2000)
    assert run.problems == [], report(run, 0.0)
    assert run.answers >= 2000
    assert run.growth < 0.05
    # Each kind of result occurred.
    assert {"Profile", "bool", "Response", "AdaptyConnectionError", "InvalidResponseError"} <= run.ends.keys()
    assert {"BadRequestError", "ProfileNotFoundError", "RateLimitError", "ServerError"} <= run.ends.keys()


def test_an_answer_is_told_by_its_seed() -> None:
    drawn = [odd_answer(random.Random(f"1/{number % 50}"), (KEY, "anna"), method="GET") for number in range(100)]  # noqa: S311 - no secret
    assert drawn[:50] == drawn[50:]
    assert len(set(drawn)) > 45


def test_a_problem_says_how_to_see_it_again() -> None:
    run = Run(7)
    run.found(12, "escaped")
    assert "python -m tests.fuzz --seed 7 --case 12" in report(run, 1.0)
