"""The key of a job: another key is accepted only if a profile shows that it is of the same app; no row is left out."""

import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome
from adapty_async.ledger import LedgerReader
from adapty_async.testing import Fault
from adapty_async.testing.profiles import Profiles
from tests.cli.commands.test_delete import Keyboard
from tests.cli.served import AT_ONCE, acting_after
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, ledger_of, run

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")
Turn = Callable[[], None]


@pytest.fixture
def to_other_app(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> Turn:
    """Switch the server and the key to another app, which has none of the listed profiles, and back."""
    apps = [(Profiles(7), "secret_live_of_another_app"), (witness.profiles, witness.api_key)]
    apps[0][0].add(customer_user_id="somebody")

    def turn() -> None:
        witness.profiles, witness.api_key = apps[0]
        monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
        apps.reverse()

    return turn


def exchange(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    witness.api_key = "secret_live_exchanged"
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)


# A key of another app


def test_whoever_was_absent_to_the_key_of_another_app_is_deleted_once_the_right_one_is_shown(
    witness: Witness, people: Path, say: Say, to_other_app: Turn
) -> None:
    app, ledger = witness.profiles.app_id, ledger_of(people)
    to_other_app()
    assert run(*DELETE, people) == 3
    assert run("verify", ledger) == 0
    to_other_app()
    assert run("resume", ledger, "--new-key", "--app", app) == 0
    assert len(witness.profiles) == 0
    assert agree(say, ledger, witness, 0) == {Outcome.DELETED: PEOPLE}
    with LedgerReader(ledger) as reader:
        assert [*reader.verification_results()] == []
    to_other_app()
    status, _, err = say("verify", ledger)
    assert status == 5
    assert "a different API key" in err


def test_whom_a_wrong_key_found_absent_is_found_again_after_an_interruption_too(
    witness: Witness, people: Path, say: Say, to_other_app: Turn
) -> None:
    app, ledger = witness.profiles.app_id, ledger_of(people)
    to_other_app()
    assert run(*DELETE, people) == 3
    to_other_app()
    witness.inject(*[Fault.REDIRECT] * 6, method="DELETE")
    assert run("resume", ledger, "--new-key", "--app", app, "--max-failures", 5, "--concurrency", 1) == 3
    assert run("retry-failed", ledger, "--max-failures", "100%") == 0
    assert agree(say, ledger, witness, 0) == {Outcome.DELETED: PEOPLE}


def test_where_people_of_an_unknown_app_are_deleted_no_other_key_is_taken(
    witness: Witness, people: Path, say: Say, to_other_app: Turn
) -> None:
    witness.inject(*[Fault.REDIRECT] * 10, method="DELETE")
    ledger = ledger_of(people)
    assert run(*DELETE, people, "--max-failures", "100%") == 1
    to_other_app()
    for id_ in ids(PEOPLE):
        witness.profiles.add(customer_user_id=id_)
    asked = witness.stats.requests
    for app in ((), ("--app", witness.profiles.app_id)):
        status, _, err = say("retry-failed", ledger, "--new-key", *app)
        assert status == 5
        assert "20 profiles" in err
        assert "another ledger" in err
    assert witness.stats.requests == asked
    to_other_app()
    assert run("retry-failed", ledger) == 0


def test_an_updated_profile_that_was_not_found_by_a_wrong_key_is_written(
    witness: Witness, people: Path, to_other_app: Turn
) -> None:
    people.write_text("customer_user_id,email\n" + "".join(f"{id_},a@example.com\n" for id_ in ids(3)))
    app, ledger = witness.profiles.app_id, ledger_of(people)
    to_other_app()
    assert run("update", *DELETE[1:], people) == 1
    to_other_app()
    assert run("resume", ledger, "--new-key", "--app", app) == 0


@pytest.mark.parametrize("variable", ["ADAPTY_API_KEY", "ADAPTY_API_KEY_FILE"])
def test_the_advice_about_a_key_names_the_variable_in_use(
    witness: Witness, people: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    def take(key: str) -> None:
        (tmp_path / "key.txt").write_text(key)
        monkeypatch.delenv("ADAPTY_API_KEY", raising=False)
        monkeypatch.setenv(variable, str(tmp_path / "key.txt") if variable.endswith("_FILE") else key)

    a_file = " a file that contains" if variable.endswith("_FILE") else ""
    assert run(*DELETE, people) == 0
    take("secret_of_nobody")
    app, ledger = witness.profiles.app_id, ledger_of(people)
    for command, says in (
        (("resume", ledger), "that key; if it has been replaced"),
        (("delete", people, *DELETE[1:], "--ledger", tmp_path / "other.db"), "the secret key of the app"),
        (("delete", people, *DELETE[1:], "--ledger", tmp_path / "third.db", "--app", app), "the secret key of the app"),
        (("plan", people, "--by", "customer_user_id", "--probe", 1), "the secret key of the app"),
    ):
        _, out, err = say(*command)
        assert f"set {variable} to{a_file} {says}" in out + err
    take(witness.api_key)
    _, _, err = say("delete", people, *DELETE[1:], "--ledger", tmp_path / "fourth.db")
    assert f"If the key was for another app, set {variable} to{a_file} the right one, and name its app:" in err


# A replaced key


def test_a_finished_job_takes_an_exchanged_key_and_asks_nobody(
    witness: Witness, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, ledger = witness.profiles.app_id, ledger_of(people)
    assert run(*DELETE, people, "--app", app) == 0
    exchange(witness, monkeypatch)
    asked = witness.stats.requests
    assert run("resume", ledger, "--new-key") == 0
    assert run("resume", ledger, "--new-key", "--app", app) == 0
    assert witness.stats.requests == asked
    # No profile has confirmed that the key is of the same app.
    assert run("verify", ledger) == 5


def test_a_finished_job_of_an_unknown_app_takes_any_key_as_nothing_is_sent(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(people)
    assert run(*DELETE, people) == 0
    other = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"
    assert run("resume", ledger, "--app", other) == 0
    exchange(witness, monkeypatch)
    assert run("resume", ledger, "--new-key") == 0
    assert witness.stats.requests == PEOPLE
    # An app that no profile has confirmed isn't recorded.
    status, _, err = say("verify", ledger, "--new-key", "--witness-id", "somebody")
    assert status == 2
    assert "doesn't record the app" in err
    with LedgerReader(ledger) as reader:
        assert reader.job_options["app"] is None


def left_with_a_new_key_and_nobody_listed(witness: Witness, people: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the ledger of a deletion of all profiles but one.

    That one is removed afterwards and the key is replaced. The app also has a profile that isn't listed.
    """
    app, ledger = witness.profiles.app_id, ledger_of(people)
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--app", app, "--concurrency", 1) == 1
    (left,) = witness.profiles
    witness.profiles.remove(witness.profiles[left])
    witness.add_profile(customer_user_id="of the staff")
    exchange(witness, monkeypatch)
    return ledger


def test_where_no_listed_person_exists_any_more_one_who_is_named_shows_the_app(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = left_with_a_new_key_and_nobody_listed(witness, people, monkeypatch)
    status, _, err = say("retry-failed", ledger, "--new-key")
    assert status == 3
    assert "--witness-id" in err
    status, _, err = say("verify", ledger, "--new-key")
    assert status == 3
    assert "--witness-id" in err
    assert run("verify", ledger, "--new-key", "--witness-id", "of the staff") == 0
    assert run("retry-failed", ledger, "--new-key", "--witness-id", "of the staff") == 0
    assert agree(say, ledger, witness, 0) == {Outcome.DELETED: PEOPLE - 1, Outcome.ALREADY_ABSENT: 1}
    assert run("verify", ledger) == 0


@pytest.mark.parametrize("command", [("verify", *AT_ONCE), ("retry-failed", *AT_ONCE)])
def test_who_is_named_can_be_read_from_standard_input_so_that_no_shell_keeps_the_id(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    ledger = left_with_a_new_key_and_nobody_listed(witness, people, monkeypatch)
    name, *options = command
    for standard_input, says in ((io.StringIO("\n"), "--witness-id - found no ID"), (None, "no standard input")):
        monkeypatch.setattr("sys.stdin", standard_input)
        status, _, err = say(name, ledger, *options, "--new-key", "--witness-id", "-")
        assert status == 2
        assert says in err
    monkeypatch.setattr("sys.stdin", Keyboard("of the staff\nand more\n"))
    status, _, err = say(name, ledger, *options, "--new-key", "--witness-id", "-")
    assert status == 0
    assert err.startswith("The ID for --witness-id: ")
    assert "of the staff" not in err


@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
@pytest.mark.parametrize("command", [("verify",), ("retry-failed",), ("resume",)])
def test_standard_input_is_not_both_the_input_and_who_is_named(
    witness: Witness, people: Path, say: Say, command: tuple[str, ...], file: str
) -> None:
    ledger = ledger_of(people)
    assert run(*DELETE, people, "--app", witness.profiles.app_id) == 0
    asked = witness.stats.requests
    name, *options = command
    status, _, err = say(name, ledger, *options, "--new-key", "--witness-id", "-", "--input", file)
    assert status == 2
    assert "standard input is already the input of the job" in err
    assert witness.stats.requests == asked


def test_a_verification_takes_no_key_of_another_app(
    witness: Witness, people: Path, say: Say, to_other_app: Turn
) -> None:
    app, ledger = witness.profiles.app_id, ledger_of(people)
    assert run(*DELETE, people, "--app", app) == 0
    to_other_app()
    status, _, err = say("verify", ledger, "--new-key", "--witness-id", "somebody")
    assert status == 3
    assert f"not for {app}" in err


def test_a_verification_by_another_key_is_refused_where_nobody_knows_the_app(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(people)
    assert run(*DELETE, people) == 0
    exchange(witness, monkeypatch)
    status, _, err = say("verify", ledger, "--new-key", "--witness-id", "somebody")
    assert status == 2
    assert "key of its last run" in err


# A rejected key


def test_creations_that_were_begun_with_a_refused_key_are_carried_out_with_the_right_one(
    witness: Witness, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.write_text("customer_user_id,email\n" + "".join(f"n{number},n@example.com\n" for number in range(12)))
    ledger = ledger_of(people)
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_nobody")
    assert run("create", *DELETE[1:], people) == 4
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    assert run("retry-failed", ledger) == 5
    assert run("retry-failed", ledger, "--new-key") == 0
    assert len(witness.profiles) == PEOPLE + 12


@pytest.mark.parametrize("is_known", [True, False])
def test_what_is_offered_after_a_revoked_key_can_be_typed(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
) -> None:
    app, before = witness.profiles.app_id, witness.api_key

    def revoke() -> None:
        witness.api_key = "secret_live_exchanged"

    with acting_after(witness, 5, revoke):
        status, _, err = say(*DELETE, people, "--concurrency", 2, *(["--app", app] if is_known else []))
    assert status == 4
    assert ("--new-key" in err) == is_known
    if is_known:
        monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    witness.api_key = witness.api_key if is_known else before
    (typed,) = re.findall(r"^  adapty-async (resume (?:(?!--failures).)*)$", err, re.MULTILINE)
    assert run(*shlex.split(typed)) == 1
    assert run("retry-failed", ledger_of(people)) == 0


# A list whose profiles are all absent, sent with the key of another app


def test_a_list_that_a_wrong_key_finds_nobody_of_never_ends_well(
    witness: Witness, people: Path, say: Say, to_other_app: Turn
) -> None:
    app, ledger = witness.profiles.app_id, ledger_of(people)
    people.write_text("customer_user_id\n" + "".join(f"{id_}\n" for id_ in [*ids(PEOPLE), *map(str, range(180))]))
    to_other_app()
    assert run(*DELETE, people, "--concurrency", 1) == 3
    err = ""
    for _ in range(3):  # the last resume has nothing to send
        status, out, err = say("resume", ledger)
        assert status == 3
        assert "stopped: max_absent_ratio" in out
        assert "No row is left to send" not in err
        assert "--probe 20" in err
    (typed,) = re.findall(r"^  adapty-async (plan .*)$", err, re.MULTILINE)
    assert run(*shlex.split(typed)) == 0
    to_other_app()
    (typed,) = re.findall(r"^  adapty-async (resume .* --app) UUID$", err, re.MULTILINE)
    assert run(*shlex.split(typed), app, "--max-absent", "90%") == 0
    assert agree(say, ledger, witness, 0) == {Outcome.DELETED: PEOPLE, Outcome.ALREADY_ABSENT: 180}
    assert run("resume", ledger) == 0
    assert run("resume", ledger, "--max-absent", "50%") == 3


def test_people_who_are_known_to_be_absent_are_done(witness: Witness, people: Path, say: Say) -> None:
    witness.profiles = Profiles(7)
    assert run(*DELETE, people) == 3
    status, _, err = say("resume", ledger_of(people), "--max-absent", "100%")
    assert status == 0
    assert "No row is left to send" in err
