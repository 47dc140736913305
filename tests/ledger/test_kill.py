"""A bulk job that is killed at random moments: the short form of `make test-kill`."""

from pathlib import Path

import pytest

from ..kill import Kind, kill_until_done


@pytest.mark.no_cover  # the jobs run in other processes
@pytest.mark.parametrize(("kind", "seed"), [("delete", 1), ("update", 2)])
async def test_a_killed_job_loses_nothing_and_claims_nothing(tmp_path: Path, kind: Kind, seed: int) -> None:
    kills = await kill_until_done(
        kind, items=800, rate=500.0, seed=seed, folder=tmp_path, longest_life=0.8, max_kills=5
    )
    assert 2 <= len(kills.times) <= 5
