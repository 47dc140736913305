"""A job stays with the app and the key that it was begun with, however early or badly its first run ended."""

from pathlib import Path

import pytest

from adapty_async.cli.recorded import Recorded
from adapty_async.ledger import LedgerReader
from adapty_async.ledger.record import record_of
from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE
from tests.cli.witness import PEOPLE, Say, Witness, agree, ledger_of, run

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")
OTHER_APP = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"


def killed_at_once(people: Path, monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    """Begin a deletion that ends as soon as its ledger is there."""
    with monkeypatch.context() as patched:
        patched.setattr(Recorded, "carry_out", lambda *_: 137)
        assert run(*DELETE, people, *options) == 137
    with LedgerReader(ledger_of(people)) as reader:
        assert reader.runs == []


def become_another_app(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve another app, with the same people, and set its key."""
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
    people.write_text(people.read_text() + "\n")  # the same rows, which are compared one by one
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
        assert record_of(reader).app_id == app


def test_rows_that_all_failed_are_not_sent_again_with_the_key_of_another_app(
    witness: Witness, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness.script(*[Fault.REDIRECT] * PEOPLE, method="DELETE")
    assert run(*DELETE, people, "--app", witness.profiles.app_id, "--max-failures", "100%") == 1
    become_another_app(witness, monkeypatch)
    assert run("retry-failed", ledger_of(people)) == 5
    assert run("retry-failed", ledger_of(people), "--new-key") == 3
    assert len(witness.profiles) == PEOPLE
