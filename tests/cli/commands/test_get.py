"""The command `get`."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli.jobs.outcome_counter import OutcomeCounter
from adapty_async.testing import Fault, Simulator
from tests.cli.served import AT_ONCE, Patient, interrupting_after, settings_for, started
from tests.cli.witness import Say, ids
from tests.waiting import PATIENCE

GET = ("get", *AT_ONCE, "--by", "customer_user_id")
ONE, TWO, THREE = ids(3)


def objects(out: str) -> list[dict[str, Any]]:
    return sorted(map(json.loads, out.splitlines()), key=lambda found: found["position"])


def test_each_row_gives_one_object(sim: Simulator, tmp_path: Path, say: Say) -> None:
    profile = sim.profiles.find(customer_user_id=ONE)
    assert profile is not None
    profile.custom_attributes = {"team": "blue"}
    path = tmp_path / "people.csv"
    path.write_text(f"name,customer_user_id\nn,{ONE}\n\nn,nobody\nn,{ONE}\nn, bad\nn\n")
    status, out, err = say(*GET, path)
    assert status == 1
    found = objects(out)
    assert [(row["position"], row["line"], row["id"], row["outcome"]) for row in found] == [
        (0, 2, ONE, "fetched"),
        (1, 4, "nobody", "not_found"),
        (2, 5, ONE, "duplicate"),
        (3, 6, " bad", "invalid"),
        (4, 7, "", "invalid"),
    ]
    got = found[0]["profile"]
    assert (got["customer_user_id"], got["custom_attributes"]) == (ONE, {"team": "blue"})
    assert (got["profile_id"], got["app_id"]) == (profile.profile_id, sim.profiles.app_id)
    assert "reason" not in found[0]
    assert all(row["profile"] is None for row in found[1:])
    assert found[1]["status"] == 404
    assert "1 fetched" in err
    assert sim.stats.requests == 2


def test_all_found_is_exit_0_and_a_list_that_finds_nobody_is_read_to_its_end(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(ids(30)))
    assert say(*GET, path)[0] == 0
    path.write_text("\n".join(f"nobody-{number}" for number in range(300)))
    status, out, _ = say(*GET, path)
    assert status == 1
    assert {row["outcome"] for row in objects(out)} == {"not_found"}
    assert len(objects(out)) == 300


def test_a_wrong_key_leaves_no_row_out(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_another_app")
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(ids(30)))
    status, out, err = say(*GET, "--concurrency", 1, path)
    assert status == 4
    assert "set ADAPTY_API_KEY" in err
    assert [row["position"] for row in objects(out)] == list(range(30))
    assert "not_attempted" in {row["outcome"] for row in objects(out)}


def test_an_interrupt_leaves_no_row_out(sim: Patient, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(ids(30)))
    with interrupting_after(sim, 2):
        status, out, _ = say(*GET, "--concurrency", 2, path)
    assert status == 130
    assert [row["position"] for row in objects(out)] == list(range(30))


def test_an_interrupt_while_the_rest_is_written_hides_no_status(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(f"nobody-{number}" for number in range(30)))
    enter = OutcomeCounter.count

    def interrupted(self: OutcomeCounter, outcome: Outcome) -> None:
        if outcome is Outcome.NOT_ATTEMPTED and len(outcomes) == 19:
            raise KeyboardInterrupt
        outcomes.append(outcome)
        enter(self, outcome)

    outcomes: list[Outcome] = []

    monkeypatch.setattr(OutcomeCounter, "count", interrupted)
    sim.api_key = "another"
    status, out, err = say(*GET, "--concurrency", 1, path)
    assert status == 4
    assert len(objects(out)) < 30
    assert re.search(r"^total +30 ", err, re.MULTILINE)
    assert "stopped: credentials" in err


def test_it_reads_and_writes_pipes(sim: Simulator) -> None:
    with started([*GET, "-"], settings_for(sim), stdin=-1) as process:
        out, err = process.communicate(f"{ONE}\n{TWO}\n".encode(), timeout=PATIENCE)
        assert process.returncode == 0, err
    assert [row["id"] for row in objects(out.decode())] == [ONE, TWO]


def test_whoever_reads_no_further_ends_it_without_a_traceback(sim: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(f"nobody-{number}" for number in range(2000)))
    reading, writing = os.pipe()
    os.close(reading)
    with started([*GET, str(path)], settings_for(sim), stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert b"has closed it" in err
    assert b"Traceback" not in err
    assert sim.stats.requests < 2000


def test_what_fails_says_why(sim: Simulator, tmp_path: Path, say: Say) -> None:
    sim.inject(*[Fault.SERVER_ERROR] * 4)
    path = tmp_path / "ids.txt"
    path.write_text(ONE)
    status, out, _ = say(*GET, path)
    assert status == 1
    (row,) = objects(out)
    assert (row["status"], row["profile"]) == (500, None)
    assert ONE not in row["reason"]


def test_a_quiet_export_shows_its_summary_alone(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(ids(30)))
    status, out, err = say(*GET, path, "-q")
    assert (status, len(out.splitlines())) == (0, 30)
    assert err.splitlines()[0].split()[:2] == ["fetched", "30"]
