"""A job keeps its app and its key, however early or badly its first run ended."""

from pathlib import Path

import pytest
from aiohttp import web

from adapty_async.cli.jobs.ledger_job import LedgerJob
from adapty_async.ledger import LedgerReader
from adapty_async.ledger.compliance_record import build_record
from adapty_async.testing import Fault, Simulator
from tests.cli.conftest import lead_to
from tests.cli.served import AT_ONCE, served
from tests.cli.witness import PEOPLE, Say, Witness, agree, ledger_of, run

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")
OTHER_APP = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"


def killed_at_once(people: Path, monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    """Start a deletion that ends as soon as its ledger exists."""
    with monkeypatch.context() as patched:
        patched.setattr(LedgerJob, "execute", lambda *_: 137)
        assert run(*DELETE, people, *options) == 137
    with LedgerReader(ledger_of(people)) as reader:
        assert reader.runs == []


def become_another_app(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch to another app with profiles of the same IDs, and set its key."""
    witness.api_key = "secret_live_of_another_app"
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    witness.profiles.app_id = OTHER_APP


@pytest.mark.parametrize("has_app", [True, False])
@pytest.mark.parametrize("command", ["resume", "retry-failed"])
def test_a_job_that_never_ran_does_not_go_on_with_the_key_of_another_app(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch, command: str, has_app: bool
) -> None:
    app = witness.profiles.app_id
    killed_at_once(people, monkeypatch, *(("--app", app) if has_app else ()))
    become_another_app(witness, monkeypatch)
    status, _, err = say(command, ledger_of(people))
    assert status == 5
    assert "--new-key" in err
    people.write_text(people.read_text() + "\n")  # the same rows, so they are compared one by one
    for _ in range(2):
        status, _, err = say(command, ledger_of(people), "--new-key", *(() if has_app else ("--app", app)))
        assert status == 3
        assert OTHER_APP in err
    assert run(command, ledger_of(people)) == 5
    assert len(witness.profiles) == PEOPLE
    assert not witness.log


def test_a_job_that_never_ran_shows_its_app_before_it_goes_on(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = witness.profiles.app_id
    killed_at_once(people, monkeypatch, "--app", app)
    witness.profiles.app_id = OTHER_APP
    assert run("resume", ledger_of(people)) == 3
    assert not witness.log
    witness.profiles.app_id = app
    status, _, err = say("resume", ledger_of(people), "--app", OTHER_APP)
    assert status == 5
    assert f"is for app {app}, not {OTHER_APP}" in err
    assert run("resume", ledger_of(people)) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE}
    with LedgerReader(ledger_of(people)) as reader:
        assert build_record(reader).app_id == app


def test_rows_that_all_failed_are_not_sent_again_with_the_key_of_another_app(
    witness: Witness, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.inject(*[Fault.REDIRECT] * PEOPLE, method="DELETE")
    assert run(*DELETE, people, "--app", witness.profiles.app_id, "--max-failures", "100%") == 1
    become_another_app(witness, monkeypatch)
    assert run("retry-failed", ledger_of(people)) == 5
    assert run("retry-failed", ledger_of(people), "--new-key") == 3
    assert len(witness.profiles) == PEOPLE


# The next step that is shown at the end of a run


def test_after_a_wrong_first_key_the_line_to_type_is_one_that_can_go_on(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, right = witness.profiles.app_id, witness.api_key
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_live_of_nobody")
    status, _, err = say(*DELETE, people, "--concurrency", "5")
    assert status == 4
    told = [line.split()[1:] for line in err.splitlines() if line.startswith("  adapty-async resume ")]
    ledger = str(ledger_of(people))
    assert told == [
        ["resume", ledger, "--new-key", "--app", "UUID"],
        ["resume", ledger, "--failures", "failures.csv", "--new-key", "--app", "UUID"],
    ]
    monkeypatch.setenv("ADAPTY_API_KEY", right)
    assert run("resume", ledger) == 5
    assert run(*[app if word == "UUID" else word for word in told[0]], *AT_ONCE) == 1  # rows that failed before
    assert run("retry-failed", ledger, *AT_ONCE) == 0
    assert len(witness.profiles) == 0


class Forbidding(Simulator):
    """A simulator that doesn't permit its key to delete."""

    async def _handle_api_request(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=403)


def test_after_a_key_that_may_not_delete_another_one_is_wanted_too(
    people: Path, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with served(Forbidding()) as forbidding:
        lead_to(forbidding, monkeypatch, tmp_path)
        status, _, err = say(*DELETE, people, "--concurrency", 1)
    assert status == 4
    assert f"  adapty-async resume {ledger_of(people)} --new-key --app UUID" in err.splitlines()


def test_where_the_app_is_known_the_line_to_type_needs_none(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--app", witness.profiles.app_id, "--max-failures", "100%") == 1
    witness.api_key = "secret_live_of_the_same_app"
    status, _, err = say("retry-failed", ledger_of(people), *AT_ONCE)
    assert status == 4
    assert f"  adapty-async retry-failed {ledger_of(people)} --new-key" in err.splitlines()
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    assert run("retry-failed", ledger_of(people), "--new-key", *AT_ONCE) == 0


@pytest.mark.parametrize("status", [0, 1])
def test_when_all_is_done_it_says_what_may_follow(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.chdir(people.parent)
    if status:
        with people.open("a") as file:
            file.write("n,\n")  # is always invalid
    ended, _, err = say(*DELETE, people.name)
    assert ended == status
    assert err.splitlines()[-3:] == [
        "No row is left to send. Next, you can:",
        "  adapty-async verify people.csv.adapty.db --sample 5%",
        "  adapty-async report people.csv.adapty.db -o record.md",
    ]
    for line in err.splitlines()[-2:]:
        assert run(*line.split()[1:]) == 0


def test_as_long_as_something_is_left_only_that_is_said(witness: Witness, people: Path, say: Say) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    status, _, err = say(*DELETE, people)
    assert status == 1
    assert "retry-failed" in err
    assert "Next, you can" not in err
