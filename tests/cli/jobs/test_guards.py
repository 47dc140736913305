"""The guards of a deletion: each refuses a job before anything is deleted, and lets a correct one run."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from adapty_async.bulk import Outcome, StopReason, StopRules, operations
from adapty_async.cli.exit_status import CommandError, ExitStatus
from adapty_async.cli.jobs import ledger_job as recorded
from adapty_async.cli.jobs.guards import Guards
from adapty_async.cli.options import GuardOptions
from adapty_async.ledger import LedgerReader
from adapty_async.testing import Fault, prefilled_customer_user_id
from tests.cli.served import AT_ONCE, settings_for, started, wait_until
from tests.cli.witness import PEOPLE, Say, Witness, agree, ids, ledger_of, run

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")
SOMEBODY_ELSE = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"


def held(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "held.csv"
    path.write_text("\n".join(rows))
    return path


def runs_notes(ledger: Path) -> list[dict[str, str]]:
    with LedgerReader(ledger) as reader:
        return [dict(run.notes) for run in reader.runs]


# The number of profiles


@pytest.mark.parametrize(
    ("guards", "profiles", "confirmed", "says"),
    [
        (Guards(), 10_000, True, None),
        (Guards(), 10_001, True, "add --expect 10001"),
        (Guards(), 10_001, False, None),
        (Guards(GuardOptions(expect=10_001)), 10_001, True, None),
        (Guards(GuardOptions(expect=10_000)), 10_001, True, "not the 10,000 of --expect"),
        (Guards(GuardOptions(expect=5)), 4, False, "not the 5 of --expect"),
        (Guards(GuardOptions(max_profiles=20_000)), 10_001, True, None),
        (Guards(GuardOptions(max_profiles=10_000)), 10_001, True, "more than the 10,000 of --max"),
    ],
)
def test_many_profiles_want_their_number(guards: Guards, profiles: int, confirmed: bool, says: str | None) -> None:
    if says is None:
        guards.check(profiles, operations.DELETE, is_confirmed=confirmed)
        return
    with pytest.raises(CommandError, match=says) as refusal:
        guards.check(profiles, operations.DELETE, is_confirmed=confirmed)
    assert refusal.value.status is ExitStatus.STOPPED


@pytest.mark.parametrize(
    ("guards", "due", "rules"),
    [
        (Guards(), 1000, StopRules()),
        (Guards(), 1001, StopRules(canary=100)),
        (Guards(GuardOptions(no_canary=True)), 1001, StopRules()),
        (Guards(GuardOptions(max_failures="7")), 5, StopRules(max_failures=7, max_failure_ratio=None)),
        (Guards(GuardOptions(max_failures="2.5%")), 5, StopRules(max_failure_ratio=0.025)),
        (Guards(GuardOptions(max_absent="80%")), 5, StopRules(max_absent_ratio=0.8)),
        (
            Guards(GuardOptions(max_absent="80%", max_failures="7")),
            5,
            StopRules(max_failures=7, max_absent_ratio=0.8, max_failure_ratio=None),
        ),
    ],
)
def test_the_rules_follow_from_the_guards(guards: Guards, due: int, rules: StopRules) -> None:
    assert guards.build_stop_rules(due) == rules


@pytest.mark.parametrize("text", ["", "-1", "1.5", "101%", "%", "5 %", "many", "\u0665", "\u0665%", "9" * 5000])
def test_a_number_of_failures_that_is_none_is_wrong_usage(witness: Witness, people: Path, say: Say, text: str) -> None:
    status, _, err = say(*DELETE, people, f"--max-failures={text}")
    assert status == 2
    assert "--max-failures" in err
    assert witness.stats.requests == 0


@pytest.mark.parametrize("text", ["", "80", "101%", "%", "most", "\u0665%"])
def test_a_share_of_the_absent_that_is_none_is_wrong_usage(witness: Witness, people: Path, say: Say, text: str) -> None:
    status, _, err = say(*DELETE, people, f"--max-absent={text}")
    assert (status, err) == (2, "adapty-async: --max-absent must be a share of the rows, as in 80%\n")
    assert witness.stats.requests == 0


def test_whoever_knows_that_most_are_absent_can_go_on_and_the_record_says_so(
    witness: Witness, people: Path, say: Say
) -> None:
    with people.open("a") as file:
        file.writelines(f"n,nobody-{number}\n" for number in range(200))
    status, out, _ = say(*DELETE, people)
    assert status == 3
    assert "if they are right, allow it with --max-absent 100%" in out
    assert run("resume", ledger_of(people), *AT_ONCE) == 3
    assert run("resume", ledger_of(people), *AT_ONCE, "--max-absent", "100%") == 0
    assert run("resume", ledger_of(people), *AT_ONCE) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE, "already_absent": 200}
    guards = [notes["max_absent_ratio"] for notes in runs_notes(ledger_of(people))]
    assert guards == ["0.5", "0.5", "1.0"]
    assert "max_absent_ratio 1.0" in say("report", ledger_of(people))[1]


@pytest.mark.parametrize(
    ("deleted", "absent", "unconfirmed", "is_doubtful"),
    [
        (0, 105, 145, True),  # killed once, with the wrong key
        (0, 0, 30, True),
        (0, 0, 9, False),
        (1, 105, 145, True),
        (106, 105, 145, False),
        (105, 0, 145, False),
        (0, 0, 0, False),
    ],
)
def test_who_is_absent_after_a_kill_says_no_more_than_the_others(
    deleted: int, absent: int, unconfirmed: int, *, is_doubtful: bool
) -> None:
    counts = {
        Outcome.DELETED: deleted,
        Outcome.ALREADY_ABSENT: absent,
        Outcome.DELETED_UNCONFIRMED: unconfirmed,
        Outcome.INVALID: 1000,
    }
    assert Guards().find_violated_rule(counts) == (StopReason.MAX_ABSENT_RATIO if is_doubtful else None)


def test_a_list_that_was_sent_with_the_wrong_key_never_ends_well_whatever_killed_it(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    strangers = tmp_path / "strangers.csv"
    strangers.write_text("\n".join(f"stranger-{number}" for number in range(60)))
    witness.latency = 0.2
    arguments = ["delete", "--pace", "50", "--by", "customer_user_id", "--yes", str(strangers)]
    with started(arguments, settings_for(witness), cwd=tmp_path) as process:
        wait_until(lambda: witness.stats.requests >= 30)
        process.kill()
        process.communicate()
    status, out, err = say("resume", ledger_of(strangers))
    assert status == 3
    assert "max_absent_ratio" in out
    assert "No row is left to send" not in err
    assert say("resume", ledger_of(strangers), "--max-absent", "100%")[0] == 0


# Refusals with a message, before the first request


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (["--expect", "29"], 3, "pass --expect 30"),
        (["--max", "29"], 3, "more than the 29"),
        (["--app", "no-uuid"], 2, "--app"),
        (["--ledger", "l.db", "--no-ledger"], 2, "contradict"),
        (["--exclude", "missing.csv"], 2, "missing.csv"),
    ],
)
def test_what_a_guard_refuses_is_not_sent_and_leaves_nothing(
    witness: Witness, people: Path, say: Say, options: list[str], status: int, says: str
) -> None:
    before = sorted(people.parent.iterdir())
    got, out, err = say(*DELETE, people, *options)
    assert (got, out) == (status, "")
    assert says in err
    assert witness.stats.requests == 0
    assert sorted(people.parent.iterdir()) == before
    assert run(*DELETE, people, "--expect", PEOPLE, "--max", PEOPLE) == 0
    agree(say, ledger_of(people), witness, 0)
    assert runs_notes(ledger_of(people))[0]["expect"] == str(PEOPLE)


# The canary and the limits for failures


def test_the_first_hundred_of_many_are_judged_before_the_others_are_sent(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    people = tmp_path / "people.csv"
    people.write_text("\n".join([*ids(PEOPLE), *(f"stranger-{number}" for number in range(1200))]))
    assert run(*DELETE, people) == 3
    assert witness.stats.requests == 100
    counted = agree(say, ledger_of(people), witness, 3)
    assert (counted[Outcome.DELETED], counted[Outcome.ALREADY_ABSENT]) == (30, 70)
    assert runs_notes(ledger_of(people))[0]["canary"] == "100"
    assert run("resume", ledger_of(people), "--no-canary") == 3
    assert "canary" not in runs_notes(ledger_of(people))[1]


def test_more_failures_than_allowed_stop_it(witness: Witness, people: Path, say: Say) -> None:
    witness.inject(*[Fault.REDIRECT] * 4, method="DELETE")
    assert run(*DELETE, people, "--max-failures", 3, "--concurrency", 1) == 3
    assert witness.stats.requests == 4
    assert agree(say, ledger_of(people), witness, 3)[Outcome.FAILED] == 4
    assert run("retry-failed", ledger_of(people)) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE}


# Exclusion


def interrupted(*_given: object) -> None:
    raise KeyboardInterrupt


def test_who_is_excluded_is_never_sent_nor_fed_back(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held(tmp_path, *ids(2))
    with people.open("a") as file:
        file.write("n,\n")
    failures = tmp_path / "failures.csv"
    witness.inject(Fault.REDIRECT, method="DELETE")
    status, out, err = say(*DELETE, people, "--exclude", "held.csv", "--failures", failures, "--expect", PEOPLE - 2)
    assert status == 1
    assert "2 rows are excluded" in err
    assert "2 rows are excluded and weren't sent" in out
    with failures.open(newline="") as written:
        assert [row["adapty_outcome"] for row in csv.DictReader(written)] == ["failed", "invalid"]
    assert run("retry-failed", ledger_of(people)) == 1
    assert agree(say, ledger_of(people), witness, 1) == {"deleted": PEOPLE - 2, "excluded": 2, "invalid": 1}
    assert not set(ids(2)) & witness.log.keys()
    assert set(ids(2)) == set(witness.profiles.customer_user_ids)
    assert runs_notes(ledger_of(people))[1]["exclude"] == "held.csv"


def test_who_is_excluded_meanwhile_is_not_sent_by_the_resume(
    witness: Witness, people: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(tmp_path, ids(1)[0])
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_nobody")
    assert run(*DELETE, people, "--exclude", "held.csv", "--concurrency", 1) == 4
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    held(tmp_path, ids(9)[8])
    assert run("retry-failed", ledger_of(people), "--new-key", "--app", witness.profiles.app_id) == 0
    assert agree(say, ledger_of(people), witness, 0) == {"deleted": PEOPLE - 2, "excluded": 2}
    assert {ids(1)[0], ids(9)[8]} == set(witness.profiles.customer_user_ids)
    (tmp_path / "held.csv").unlink()
    status, _, err = say("resume", ledger_of(people))
    assert status == 2
    assert "held.csv doesn't exist, and its IDs must not be sent: put held.csv back as it was" in err
    held(tmp_path, ids(1)[0]).rename(tmp_path / "moved.csv")
    assert run("resume", ledger_of(people), "--exclude", "moved.csv") == 2
    held(tmp_path, ids(2)[1])
    assert run("resume", ledger_of(people), "--exclude", "moved.csv") == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "contains no IDs"),
        ("customer_user_id\n", "contains no IDs"),
        ("u1\n bad\n", "line 2"),
        ("name,id\nu1,u2\n", "has no column customer_user_id"),
        ("u1\n1.23E+15\n", "line 2"),
    ],
)
def test_an_exclusion_that_is_not_clear_refuses_everything(
    witness: Witness, people: Path, tmp_path: Path, say: Say, content: str, says: str
) -> None:
    held(tmp_path, content)
    status, _, err = say(*DELETE, people, "--exclude", "held.csv", "--skip-damaged")
    assert status == 2
    assert err.startswith("adapty-async: --exclude: ")
    assert says in err
    assert witness.stats.requests == 0


def test_where_everybody_is_excluded_nothing_is_left_to_send(witness: Witness, people: Path, say: Say) -> None:
    status, _, err = say(*DELETE, people, "--exclude", people)
    assert status == 2
    assert f"all {PEOPLE} rows are excluded" in err
    assert witness.stats.requests == 0


@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)])
@pytest.mark.parametrize("fails", [False, True])
def test_a_job_that_was_done_as_ordered_with_exclusions_ends_with_0(
    witness: Witness, people: Path, tmp_path: Path, say: Say, ledger: tuple[str, ...], *, fails: bool
) -> None:
    held(tmp_path, *ids(2))
    failures = tmp_path / "failures.csv"
    if fails:
        witness.inject(Fault.REDIRECT, method="DELETE")
    status, out, _ = say(*DELETE, people, "--exclude", "held.csv", "--failures", failures, "--json", *ledger)
    assert status == fails
    *_, end = map(json.loads, out.splitlines())
    deleted = PEOPLE - 2 - fails
    failed = {"failed": 1} if fails else {}
    assert end["counts"] == {"deleted": deleted, "excluded": 2, **failed}
    assert (end["excluded"], end["total"], end["status"]) == (2, PEOPLE, fails)
    with failures.open(newline="") as written:
        assert [row["adapty_outcome"] for row in csv.DictReader(written)] == list(failed)


def test_of_an_excluded_person_every_command_tells_the_list_and_that_nothing_was_sent(
    witness: Witness, people: Path, tmp_path: Path, say: Say
) -> None:
    (first, second, third), ledger = ids(3), ledger_of(people)
    (tmp_path / "legal.csv").write_text(f"{first}\n{second}\n")
    (tmp_path / "audit.csv").write_text(f"{second}\n{third}\n")
    assert run(*DELETE, people, "--exclude", "legal.csv", "--exclude", "audit.csv") == 0
    for who, name in ((first, "legal.csv"), (second, "legal.csv"), (third, "audit.csv")):
        status, out, err = say("show", ledger, who)
        assert (status, err) == (0, "")
        assert re.search(rf"^row \d: on the exclude list {name} at .* UTC; not sent$", out, re.MULTILINE)
    assert agree(say, ledger, witness, 0) == {"deleted": PEOPLE - 3, "excluded": 3}
    exported = list(csv.DictReader(say("export", ledger, "--ids", "none")[1].splitlines()))
    assert [row["exclude_list"] for row in exported[:4]] == ["legal.csv", "legal.csv", "audit.csv", ""]
    assert [(row["status"], row["attempts"]) for row in exported[:3]] == [("", "0")] * 3
    assert json.loads(say("report", ledger, "--format", "json")[1])["excluded"] == {"legal.csv": 2, "audit.csv": 1}
    assert "| exclude lists | legal.csv: 2, audit.csv: 1 |" in say("report", ledger)[1]
    assert "excluded                       3  on an exclude list" in say("status", ledger)[1]
    assert run("resume", ledger) == 0


def test_whoever_is_excluded_before_anything_was_sent_leaves_nobody_to_a_resume(
    witness: Witness, people: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_nobody")
    assert run(*DELETE, people, "--concurrency", 1) == 4
    monkeypatch.setenv("ADAPTY_API_KEY", witness.api_key)
    first, *others = ids(PEOPLE)
    held(tmp_path, *others)
    options = ("--exclude", "held.csv", "--new-key", "--app", witness.profiles.app_id)
    assert run("resume", ledger_of(people), *options) == 1  # one row had failed before
    assert not witness.log.keys() - {first}
    other = tmp_path / "other.csv"
    other.write_text(people.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(recorded, "JobRun", interrupted)
        assert run(*DELETE, other) == 130
    held(tmp_path, *ids(PEOPLE))
    for _ in range(2):
        status, out, _ = say("resume", ledger_of(other), "--exclude", "held.csv")
        assert status == 2
        assert f"{PEOPLE} rows are excluded and weren't sent" in out
    assert not witness.log.keys() - {first}


def test_profile_ids_are_excluded_however_they_are_written(witness: Witness, tmp_path: Path) -> None:
    first, *others = witness.profiles
    people = tmp_path / "people.csv"
    people.write_text("\n".join(["profile_id", first, *others]))
    held(tmp_path, "profile_id", str(first).upper())
    assert run("delete", *AT_ONCE, people, "--by", "profile_id", "--yes", "--exclude", "held.csv", "--no-ledger") == 0
    assert list(witness.profiles) == [first]


# The app


def forget_everybody(sim: Witness) -> None:
    for profile_id in list(sim.profiles):
        sim.profiles.remove(sim.profiles[profile_id])


def test_a_key_of_another_app_is_seen_before_anything_is_deleted(witness: Witness, tmp_path: Path, say: Say) -> None:
    people = tmp_path / "people.csv"
    people.write_text("\n".join(["customer_user_id", "stranger", *ids(PEOPLE)]))
    status, out, err = say(*DELETE, people, "--app", SOMEBODY_ELSE)
    assert (status, out) == (3, "")
    assert witness.profiles.app_id in err
    assert not witness.log
    assert witness.stats.requests == 2
    assert not ledger_of(people).exists()
    assert run(*DELETE, people, "--app", witness.profiles.app_id) == 0
    agree(say, ledger_of(people), witness, 0)
    assert runs_notes(ledger_of(people))[0]["app_id"] == witness.profiles.app_id
    asked = witness.stats.requests
    status, _, err = say("resume", ledger_of(people), "--app", SOMEBODY_ELSE)
    assert status == 5
    assert f"is for app {witness.profiles.app_id}, not {SOMEBODY_ELSE}" in err
    assert witness.stats.requests == asked


def test_the_app_is_seen_by_profile_id_too(witness: Witness, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("\n".join(["profile_id", *witness.profiles]))
    options = ("--by", "profile_id", "--yes", "--app", witness.profiles.app_id)
    assert run("delete", *AT_ONCE, people, *options) == 0
    assert witness.stats.requests == PEOPLE + 1


@pytest.mark.parametrize(
    ("prepare", "status", "says"),
    [
        (forget_everybody, 3, "none of the first 100 IDs"),
        (lambda sim: sim.inject(*[Fault.REDIRECT] * 4), 3, "can't be verified now"),
        (lambda sim: setattr(sim, "api_key", "another"), 4, "doesn't accept the key"),
    ],
    ids=["nobody", "trouble", "credentials"],
)
def test_where_the_app_cannot_be_seen_nothing_is_deleted(
    witness: Witness, people: Path, say: Say, prepare: Callable[[Witness], object], status: int, says: str
) -> None:
    prepare(witness)
    got, _, err = say(*DELETE, people, "--app", witness.profiles.app_id)
    assert got == status
    assert says in err
    assert not witness.log


# IDs damaged by a spreadsheet


def test_damaged_ids_refuse_the_file_or_are_left_out(witness: Witness, people: Path, say: Say) -> None:
    with people.open("a") as file:
        file.write("n,1.23E+15\nn,1.23E+15\n")
    status, _, err = say(*DELETE, people)
    assert status == 2
    assert "line 32" in err
    assert "--skip-damaged" in err
    assert witness.stats.requests == 0
    assert run(*DELETE, people, "--skip-damaged") == 1
    assert agree(say, ledger_of(people), witness, 1) == {"deleted": PEOPLE, "invalid": 2}


# The plan


def test_the_plan_tells_the_reading_and_the_numbers_and_sends_nothing(
    witness: Witness, people: Path, tmp_path: Path, say: Say
) -> None:
    held(tmp_path, *ids(2))
    with people.open("a") as file:
        file.write(f"n,{ids(3)[2]}\nn,\n")
    status, out, _ = say("plan", people, "--by", "customer_user_id", "--exclude", "held.csv")
    assert status == 0
    figures = dict(line.split(maxsplit=1) for line in out.splitlines() if line and not line.startswith(("  ", "No")))
    assert figures == {
        "first": "ID            u…m (23 characters)",
        "last": "ID             u…m (23 characters)",
        "time": "unknown: no rate limit is stored for the key; to set a rate, add --pace, such as --pace 50",
        "format": "CSV",
        "column": "customer_user_id, 2 of 2; the first row is the header",
        "rows": "32",
        "profiles": "28",
        "duplicates": "1",
        "excluded": "2",
        "invalid": "1",
    }
    assert f"  adapty-async delete {people} --by customer_user_id --exclude held.csv\n" in out
    assert witness.stats.requests == 0
    assert not ledger_of(people).exists()


def test_the_plan_of_many_prints_the_number_to_expect(tmp_path: Path, say: Say) -> None:
    people = tmp_path / "people.txt"
    people.write_text("\n".join(ids(10_001)))
    status, out, _ = say("plan", people, "--by", "customer_user_id")
    assert status == 0
    assert "one customer_user_id per line, from the first line" in out
    assert "--expect 10001\n" in out


# Data for the record


def test_operator_and_request_stand_in_the_record(witness: Witness, people: Path, say: Say) -> None:
    assert run(*DELETE, people, "--operator", "Ann", "--request", "DSR-7") == 0
    _, out, _ = say("report", ledger_of(people))
    assert "| Ann | DSR-7 |" in out
    assert prefilled_customer_user_id(1) not in out


def test_a_creation_has_no_limit_of_the_absent(witness: Witness, people: Path, say: Say) -> None:
    assert run("create", *AT_ONCE, people, "--by", "customer_user_id", "--yes", "--attributes", "none") == 0
    assert all("max_absent_ratio" not in notes for notes in runs_notes(ledger_of(people)))
    sent = witness.stats.requests
    status, _, err = say("resume", ledger_of(people), "--max-absent", "10%")
    assert status == 2
    assert err == (
        "adapty-async: --max-absent is for deletions, but the operation of this ledger is create: leave it out\n"
    )
    assert witness.stats.requests == sent
