"""The command `create`."""

from pathlib import Path

import pytest

from adapty_async.testing import Fault, Simulator
from tests.cli.served import AT_ONCE
from tests.cli.witness import Say, ids, ledger_of, run

CREATE = ("create", *AT_ONCE, "--by", "customer_user_id", "--yes")


def test_profiles_are_created_with_their_attributes(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "people.csv"
    path.write_text("customer_user_id,email,custom.team\nann,a@b.example,blue\nbea,,\n")
    status, out, err = say(*CREATE, path)
    assert status == 0
    assert "2 profiles to create" in err
    assert "Adapty accepted the creation" in out
    ann, bea = (sim.profiles.find(customer_user_id=name) for name in ("ann", "bea"))
    assert ann is not None
    assert bea is not None
    assert (ann.attributes, ann.custom_attributes) == ({"email": "a@b.example"}, {"team": "blue"})
    assert (bea.attributes, bea.custom_attributes) == ({}, {})
    assert sim.stats.responses == {("POST", 200): 2}


def test_a_list_of_ids_is_enough(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("ann\nbea\n")
    status, _, err = say(*CREATE, path)
    assert status == 0
    assert "attributes written: none" in err
    assert {"ann", "bea"} <= sim.profiles.customer_user_ids


def test_an_invalid_row_is_never_created_without_its_attributes(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "people.csv"
    path.write_text("customer_user_id,email\nann,nobody\nbea,b@c.example\n")
    assert run(*CREATE, path) == 1
    assert run("retry-failed", ledger_of(path)) == 1
    assert "ann" not in sim.profiles.customer_user_ids
    assert sim.stats.requests == 1


def test_a_creation_that_failed_is_sent_again_and_the_record_says_creation(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("customer_user_id,email\nann,a@b.example\n")
    sim.inject(*[Fault.SERVER_ERROR] * 4, method="POST")
    assert run(*CREATE, path) == 1
    assert run("retry-failed", ledger_of(path)) == 0
    assert "# Record of a mass creation" in say("report", ledger_of(path))[1]
    assert say("export", ledger_of(path), "--ids", "none")[1].splitlines()[1].startswith("0,,created,200,")


def test_the_new_key_of_an_app_is_seen_from_what_was_created(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "people.txt"
    path.write_text("ann\n")
    assert run(*CREATE, path) == 0
    with path.open("a") as file:
        file.write("bea\n")
    sim.api_key = "secret_live_exchanged"
    monkeypatch.setenv("ADAPTY_API_KEY", sim.api_key)
    options = ("--allow-appended", "--yes", "--new-key")
    assert say("resume", ledger_of(path), *options)[0] == 2
    assert say("resume", ledger_of(path), *options, "--app", ids(1)[0].replace("user", ""))[0] == 2
    status, _, err = say("resume", ledger_of(path), *options, "--app", sim.profiles.app_id)
    assert status == 0, err
    assert sim.stats.responses == {("POST", 200): 2, ("GET", 200): 1}


def test_profile_ids_are_not_for_creating(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("3286abd3-48b0-4e9c-a5f6-ac0a006333a6\n")
    status, _, err = say("create", path, "--by", "profile_id", "--yes")
    assert (status, sim.stats.requests) == (2, 0)
    assert "pass --by customer_user_id" in err
