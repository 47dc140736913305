"""The commands that read a ledger: their figures agree, and they show IDs only on request."""

import asyncio
import csv
import io
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from adapty_async import UNPACED, AdaptyClient, bulk
from adapty_async.bulk import Outcome, SkippedItem, StopReason, StopRules
from adapty_async.bulk.api import job_spec
from adapty_async.cli import main
from adapty_async.cli.jobs import confirmation
from adapty_async.cli.jobs.job_options import JobOptions
from adapty_async.cli.options import SpeedOptions
from adapty_async.ledger import Ledger, LedgerReader, Spool, prepare
from adapty_async.ledger.store import Store
from adapty_async.testing import Fault, Simulator, prefilled_customer_user_id
from tests.full_disk import full_disk
from tests.waiting import PATIENCE

from ..served import AT_ONCE, Patient, interrupting_after

NOTES = {"operator": "Ada", "request": "DSR-17", "expect": "28"}
RULES = StopRules(max_failure_ratio=None, max_absent_ratio=None)
FIRST = prefilled_customer_user_id(1)

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """Run a command. Return its status and its output."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([*map(str, arguments)])
        written = capfd.readouterr()
        assert "Traceback" not in written.err
        return status, written.out, written.err

    return run


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Write the input of the job: 27 existing profiles, one of them twice, an absent one, and an invalid ID."""
    path = tmp_path / "people.csv"
    rows = [*map(prefilled_customer_user_id, range(1, 28)), FIRST, "nobody", ""]
    path.write_text("\n".join(["name,customer_user_id", *(f"n{n},{who}" for n, who in enumerate(rows))]), "utf-8")
    return path


def _rows(people: Path) -> list[str | SkippedItem[str]]:
    plain: list[str] = [line.split(",")[1] for line in people.read_text("utf-8").splitlines()[1:]]
    return [*plain[:27], SkippedItem(plain[27], Outcome.DUPLICATE), plain[28], SkippedItem("", Outcome.INVALID)]


def run_job(sim: Simulator, people: Path, *, run: bool = True, only: Iterable[str] | None = None) -> Path:
    """Prepare a job like the command, and run it."""
    ledger = people.with_name("people.csv.adapty.db")

    async def work() -> None:
        async with AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
            order = JobOptions(file=people, by="customer_user_id", speed_options=SpeedOptions(pace="full"))
            job = job_spec(client, "delete", "customer_user_id")
            with people.open("rb") as file:
                prepare(ledger, job, _rows(people), job_options=order.to_dict(ledger), file=file)
            if run:
                plain = [row.item if isinstance(row, SkippedItem) else row for row in _rows(people)]
                await bulk.delete_profiles(
                    client,
                    only or plain,
                    by="customer_user_id",
                    pacer=UNPACED,
                    stop=RULES,
                    ledger=Ledger(ledger, notes=NOTES),
                )

    asyncio.run(work())
    return ledger


@pytest.fixture
def ledger(sim: Simulator, people: Path) -> Path:
    return run_job(sim, people)


def test_status_export_record_and_ledger_agree(ledger: Path, say: Say, tmp_path: Path) -> None:
    with LedgerReader(ledger) as reader:
        totals = {str(outcome): count for outcome, count in reader.status().totals.items() if count}
    assert totals == {"deleted": 27, "duplicate": 1, "already_absent": 1, "invalid": 1}
    assert say("report", ledger, "--format", "json", "-o", tmp_path / "r.json") == (0, "", "")
    assert say("report", ledger, "--output", tmp_path / "r.md") == (0, "", "")
    record = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert (record["totals"], record["items"]) == (totals, 30)
    page = (tmp_path / "r.md").read_text("utf-8")
    assert say("report", ledger) == say("report", ledger, "--format", "md", "-o", "-") == (0, page, "")
    assert say("report", ledger, "--format", "json") == (0, (tmp_path / "r.json").read_text("utf-8"), "")
    status, out, _ = say("export", ledger)
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert Counter(row["outcome"] for row in rows) == totals
    assert [row["position"] for row in rows] == [str(n) for n in range(30)]
    status, out, err = say("status", ledger)
    shown = {name: int(count) for name, count in re.findall(r"^(\w+) +([\d,]+)  ", out, re.MULTILINE)}
    assert (status, err) == (0, "")
    assert shown == {**totals, "total": 30, "waiting": 0, "claimed": 0}
    assert "it isn't running" in out
    assert "Ada" in page
    assert "DSR-17" in page
    assert "expect 28" in page


def test_the_ids_are_hashed_plain_or_left_out(ledger: Path, people: Path, say: Say) -> None:
    def exported(*options: object) -> list[dict[str, str]]:
        status, out, _ = say("export", ledger, *options)
        assert status == 0
        return list(csv.DictReader(io.StringIO(out)))

    hashed, plain, none = exported(), exported("--ids", "plain"), exported("--ids", "none")
    assert [len(row["id"]) for row in hashed] == [32] * 30
    assert [row["id"] for row in plain] == [line.split(",")[1] for line in people.read_text("utf-8").splitlines()[1:]]
    assert {row["id"] for row in none} == {""}
    for rows in (hashed, plain, none):
        for row in rows:
            del row["id"]
    assert hashed == plain == none
    assert hashed[0]["status"] == "204"
    assert hashed[0]["attempts"] == "1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", hashed[0]["time"])
    moved = people.rename(people.with_name("moved.csv"))
    assert exported("--ids", "plain", "--input", moved)[0]["position"] == "0"


def test_plain_ids_of_another_input_are_refused_before_the_first_row(ledger: Path, people: Path, say: Say) -> None:
    text = people.read_text("utf-8")
    people.write_text(text.replace("nobody", "somebody"), "utf-8")
    status, out, err = say("export", ledger, "--ids", "plain")
    assert (status, out) == (5, "")
    assert "line 30" in err
    people.unlink()
    status, out, _ = say("export", ledger, "--ids", "plain")
    assert status != 0
    assert out == ""


def test_one_id_proves_its_deletion(ledger: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = say("show", ledger, FIRST)
    assert (status, err) == (0, "")
    assert re.match(r"row 1: Adapty accepted the deletion \(204\) at \d{4}-.* UTC\nrow 28: the same ID", out)
    assert FIRST not in out
    assert "app not verified" in out
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{FIRST}\n"))
    assert say("show", ledger, "-") == (0, out, "")
    for nothing in (io.StringIO(), io.TextIOWrapper(io.BytesIO(b"\xff\n"), "utf-8")):
        monkeypatch.setattr("sys.stdin", nothing)
        status, _, err = say("show", ledger, "-")
        assert status == 2
        assert "show - found no ID" in err
    status, out, err = say("show", ledger, "stranger")
    assert (status, out) == (1, "")
    assert "no row" in err
    assert "stranger" not in err
    assert say("show", ledger, "--", "-stranger")[0] == 1
    assert say("report", ledger, "--about", FIRST)[0] == 2


def test_what_failed_is_no_proof(sim: Simulator, people: Path, say: Say) -> None:
    sim.inject(*[Fault.REDIRECT] * 40)
    ledger = run_job(sim, people)
    status, out, err = say("show", ledger, FIRST)
    assert status == 1
    assert out.startswith("row 1: rejected by Adapty")
    assert "not every row with this ID is known to be done, so this is no proof" in err


def test_a_verification_finds_nobody(ledger: Path, sim: Simulator, say: Say) -> None:
    before = sim.stats.requests
    status, out, err = say("verify", ledger, *AT_ONCE)
    assert status == 0
    assert "28 of 28 rows; 28 absent" in err
    assert re.findall(r"^\w+ +(\d+)", out, re.MULTILINE) == ["0", "28", "0"]
    assert sim.stats.requests - before == 28
    assert "| verified | 28 absent, 0 present, " in say("report", ledger)[1]
    assert "the profile was absent when verified at" in say("show", ledger, FIRST)[1]


def test_whoever_is_present_heads_the_record_and_makes_it_fail(ledger: Path, sim: Simulator, say: Say) -> None:
    record = json.loads(say("report", ledger, "--format", "json")[1])
    sim.add_profile(customer_user_id=FIRST)
    status, out, err = say("verify", ledger, "--sample", "100%", *AT_ONCE)
    assert status == 1
    assert out.startswith("present                        1  ")
    assert f"adapty-async report {ledger}" in err
    status, page, err = say("report", ledger)
    assert status == 1
    assert err.splitlines() == [
        "adapty-async: 1 profile was present when it was verified; to write its row to a file:",
        f"  adapty-async verify {ledger} --present present.csv",
    ]
    assert page.splitlines()[2].startswith("**1 profile was present when it was checked")
    after = json.loads(say("report", ledger, "--format", "json")[1])
    assert (after["totals"], after["rows_digest"]) == (record["totals"], record["rows_digest"])
    status, out, err = say("show", ledger, FIRST)
    assert status == 1
    assert out.startswith("row 1: the profile was present when verified at ")
    assert err == "adapty-async: the profile was present when it was verified, so this is no proof of a deletion\n"


@pytest.mark.parametrize(("sample", "asked"), [("5", 5), ("10%", 3), ("1000", 28), ("0.1%", 1), ("all", 28)])
def test_a_sample_is_a_number_or_a_share(ledger: Path, sim: Simulator, say: Say, sample: str, asked: int) -> None:
    before = sim.stats.requests
    assert say("verify", ledger, "--sample", sample, *AT_ONCE)[0] == 0
    assert sim.stats.requests - before == asked


@pytest.mark.parametrize("sample", ["0", "0%", "101%", "1.5", "many", "-1", ""])
def test_what_is_no_sample_is_bad_usage(ledger: Path, sim: Simulator, say: Say, sample: str) -> None:
    before = sim.stats.requests
    assert say("verify", ledger, f"--sample={sample}")[0] == 2
    assert sim.stats.requests == before


def test_what_isnt_known_of_everybody_is_no_success(ledger: Path, sim: Simulator, say: Say) -> None:
    sim.inject(Fault.REDIRECT)
    status, out, _ = say("verify", ledger, *AT_ONCE)
    assert status == 1
    assert re.findall(r"^\w+ +(\d+)", out, re.MULTILINE) == ["0", "27", "1"]


def test_a_verification_needs_the_key_of_the_job(
    ledger: Path, sim: Simulator, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sim.stats.requests
    monkeypatch.setenv("ADAPTY_API_KEY", "another")
    assert say("verify", ledger, *AT_ONCE)[0] == 5
    monkeypatch.delenv("ADAPTY_API_KEY")
    assert say("verify", ledger, *AT_ONCE)[0] == 4
    assert sim.stats.requests == before


def test_a_key_that_is_refused_is_said(ledger: Path, sim: Simulator, say: Say) -> None:
    sim.api_key = "exchanged"
    status, out, _ = say("verify", ledger, *AT_ONCE)
    assert status == 4
    assert "ADAPTY_API_KEY" in out


def test_a_job_that_was_only_prepared_can_be_shown_and_recorded(sim: Simulator, people: Path, say: Say) -> None:
    ledger = run_job(sim, people, run=False)
    status, out, err = say("status", ledger)
    assert status == 0
    assert f"adapty-async resume {ledger}" in err
    assert re.search(r"^waiting +28 ", out, re.MULTILINE)
    record = json.loads(say("report", ledger, "--format", "json")[1])
    assert record["totals"] == {"duplicate": 1, "invalid": 1, "not_attempted": 28}
    assert record["runs"] == []
    assert say("verify", ledger, *AT_ONCE)[0] == 2


def test_the_record_of_a_job_that_is_not_finished_says_so_at_its_head_and_how_to_go_on(
    sim: Simulator, people: Path, say: Say
) -> None:
    ledger = run_job(sim, people, run=False)
    go_on = f"adapty-async resume {ledger}"
    status, page, err = say("report", ledger)
    assert status == 0
    assert err == f"The job isn't finished: 28 items are open. To resume it:\n  {go_on}\n"
    assert page.splitlines()[2:5] == [
        "**The job isn't finished: 28 of 30 items were open when this was written.** To resume it:",
        "",
        f"    adapty-async resume {ledger.name}",
    ]
    record = json.loads(say("report", ledger, "--format", "json")[1])
    assert list(record.items())[:3] == [
        ("finished", False),
        ("open", 28),
        ("resume_command", f"adapty-async resume {ledger.name}"),
    ]
    assert str(ledger.parent) not in page
    assert say(*shlex.split(go_on)[1:], *AT_ONCE)[0] == 1
    status, page, err = say("report", ledger)
    assert (status, err) == (0, "")
    assert "finished" not in page
    record = json.loads(say("report", ledger, "--format", "json")[1])
    assert list(record.items())[:3] == [("finished", True), ("open", 0), ("resume_command", None)]


def test_the_record_of_a_job_that_runs_says_that_it_is_not_finished_and_not_to_go_on(
    sim: Simulator, people: Path, say: Say
) -> None:
    ledger = run_job(sim, people, run=False)
    with Store.open(ledger):
        status, page, err = say("report", ledger)
        record = json.loads(say("report", ledger, "--format", "json")[1])
    assert (status, err) == (0, "The job isn't finished: 28 items are open.\n")
    assert page.splitlines()[2] == "**The job isn't finished: 28 of 30 items were open when this was written.**"
    assert (record["open"], record["resume_command"]) == (28, None)


def test_an_interrupted_verification_keeps_what_it_found(ledger: Path, sim: Patient, say: Say) -> None:
    with interrupting_after(sim, 4):
        status, _, err = say("verify", ledger, *AT_ONCE, "--concurrency", 2)
    assert (status, err.splitlines()[-2]) == (130, f"  adapty-async verify {ledger} --remaining")
    with LedgerReader(ledger) as reader:
        found = len(list(reader.verification_results()))
        assert 0 < found < 28
    assert say("verify", ledger, "--remaining", "--sample", 1, *AT_ONCE)[0] == 0
    found += 1
    before = sim.stats.requests
    sim.inject(Fault.REDIRECT)
    status, out, err = say("verify", ledger, "--remaining", *AT_ONCE)
    assert status == 1
    assert sim.stats.requests - before == 28 - found
    assert re.findall(r"^\w+ +(\d+)", out, re.MULTILINE) == ["0", str(27 - found), "1"]
    assert err.splitlines()[-1] == f"  adapty-async verify {ledger} --remaining"
    assert say("verify", ledger, "--remaining", *AT_ONCE)[0] == 0
    assert "| verified | 28 absent, 0 present, " in say("report", ledger)[1]
    status, _, err = say("verify", ledger, "--remaining", *AT_ONCE)
    assert (status, err) == (
        2,
        f"adapty-async: {ledger} contains no accepted deletion left to verify: nothing to verify\n",
    )
    assert say("verify", ledger, *AT_ONCE)[0] == 0
    assert sim.stats.requests - before == 2 * 28 - found + 1


def test_a_ledger_in_use_can_be_read_and_nothing_else(ledger: Path, sim: Simulator, say: Say) -> None:
    before = sim.stats.requests
    record = say("report", ledger)
    with Store.open(ledger):
        status, out, err = say("status", ledger)
        assert (status, err) == (0, "")
        assert re.search(r"^it isn't running, but in use by another command\n\n", out, re.MULTILINE)
        assert say("report", ledger) == record
        for refused in (("verify", ledger, *AT_ONCE), ("anonymize", ledger, "--yes")):
            status, out, err = say(*refused)
            assert (status, out) == (5, "")
            assert "in use by another process" in err
    assert sim.stats.requests == before


def test_anonymize_leaves_no_way_to_an_id(ledger: Path, say: Say) -> None:
    Spool(ledger).fill(io.BytesIO(FIRST.encode()))
    record = say("report", ledger)
    status, _, err = say("anonymize", ledger)
    assert (status, err) == (2, "adapty-async: can't ask for confirmation without a terminal: add --yes to proceed\n")
    status, _, err = say("anonymize", ledger, "--yes")
    assert status == 0
    assert err.startswith("After this, the job can't be resumed")
    left = [file for file in ledger.parent.iterdir() if file.name.startswith(ledger.name)]
    assert left
    assert not any(b"example.com" in file.read_bytes() for file in left)
    assert say("report", ledger) == record
    assert say("status", ledger)[0] == say("export", ledger)[0] == 0
    assert say("show", ledger, FIRST)[0] == 5
    assert say("export", ledger, "--ids", "plain")[0] == 5


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Simulate a terminal on which that text is typed."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def sit_down(answer: str) -> None:
        monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
        monkeypatch.setattr(confirmation, "_is_terminal", lambda _: True)

    return sit_down


def test_anonymize_is_typed_by_whoever_knows_what_cant_be_done_afterwards(
    ledger: Path, say: Say, typing: Callable[[str], None]
) -> None:
    key = ledger.with_name(f"{ledger.name}.key")
    for answer in ("yes", ""):
        typing(answer)
        status, _, err = say("anonymize", ledger)
        assert status == 2
        assert "no row can be looked up or exported by its ID" in err
        assert "can't be sent" not in err
        assert "nothing was removed" in err
        assert key.exists()
    typing("anonymize")
    assert say("anonymize", ledger)[0] == 0
    assert not key.exists()


def test_the_question_says_where_the_job_isnt_at_its_end(
    sim: Simulator, people: Path, say: Say, typing: Callable[[str], None]
) -> None:
    ledger = run_job(sim, people, run=False)
    typing("no")
    status, _, err = say("anonymize", ledger)
    assert status == 2
    assert f"28 rows are left and can't be sent after this. To send them: adapty-async resume {ledger}" in err
    assert say("anonymize", ledger, "--yes")[0] == 0


@pytest.mark.parametrize("arguments", [("resume",), ("verify",), ("show", FIRST)])
def test_an_anonymous_ledger_is_said_to_be_one(ledger: Path, say: Say, arguments: tuple[str, ...]) -> None:
    name, *others = arguments
    assert say("anonymize", ledger, "--yes")[0] == 0
    status, _, err = say(name, ledger, *others)
    assert status == 5
    assert err.splitlines()[-1] == (
        f"adapty-async: {ledger} was made anonymous: its key file {ledger.name}.key was removed, and without it no ID "
        "can be looked up and the job can't be resumed; if the file was only moved, put it back"
    )


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("export",), ("report",), ("show", FIRST), ("verify",), ("anonymize",)],
)
def test_what_is_no_whole_ledger_is_one_sentence_and_exit_5(
    ledger: Path, say: Say, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    name, *others = arguments
    assert say(name, tmp_path / "missing", *others)[0] == 2
    whole = ledger.read_bytes()
    for left in (b"", b"customer_user_id\n" * 100, whole[: len(whole) // 2]):
        ledger.write_bytes(left)
        status, out, err = say(name, ledger, *others)
        assert (status, out) == (5, "")
        assert len(err.splitlines()) == 1
        assert FIRST not in err


def test_a_record_that_cant_be_written_is_said(ledger: Path, say: Say, tmp_path: Path) -> None:
    status, _, err = say("report", ledger, "--format", "json", "-o", tmp_path / "missing" / "r.json")
    assert status == 2
    assert "No such file" in err


def test_a_record_for_which_there_is_no_room_is_said(ledger: Path, say: Say, tmp_path: Path) -> None:
    with full_disk(400):
        status, _, err = say("report", ledger, "--format", "json", "-o", tmp_path / "r.json")
    assert status == 5
    assert "make room" in err
    assert not list(tmp_path.glob("r.json*"))


def test_a_reader_who_has_enough_is_no_failure(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

        def fileno(self) -> int:
            return file.fileno()

    with (ledger.parent / "out").open("w") as file:
        out: Any = Gone()
        monkeypatch.setattr("sys.stdout", out)
        assert main(["export", str(ledger)]) == 0


@pytest.mark.parametrize("record_format", ["json", "md"])
def test_a_record_goes_into_a_pipe_and_does_not_take_its_place(
    ledger: Path, say: Say, tmp_path: Path, record_format: str
) -> None:
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = Thread(target=lambda: read.append(pipe.read_text("utf-8")), daemon=True)
    reader.start()
    assert say("report", ledger, "--format", record_format, "-o", pipe)[0] == 0
    assert pipe.is_fifo()
    reader.join(PATIENCE)
    assert read == [say("report", ledger, "--format", record_format)[1]]


def test_a_record_takes_the_place_of_another_file_only_where_that_is_said(
    ledger: Path, say: Say, tmp_path: Path
) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("old")
    status, out, err = say("report", ledger, "--format", "json", "-o", tmp_path / "link.json")
    assert (status, out) == (2, "")
    assert "link.json exists and may be a record: name another file, or add --force to replace it" in err
    assert (tmp_path / "r.json").read_text() == "old"
    assert say("report", ledger, "--format", "json", "-o", tmp_path / "link.json", "--force")[0] == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "r.json").read_text("utf-8"))["items"] == 30


@pytest.mark.parametrize("record_format", ["json", "md"])
def test_a_record_never_takes_the_place_of_what_the_job_needs(
    ledger: Path, people: Path, say: Say, tmp_path: Path, record_format: str
) -> None:
    (tmp_path / "link").symlink_to(people)
    for needed in (ledger, people, tmp_path / "link", *(Path(f"{ledger}{each}") for each in (".key", ".lock", "-wal"))):
        before = needed.read_bytes() if needed.exists() else None
        status, out, err = say("report", ledger, "--format", record_format, "-o", needed)
        assert (status, out) == (2, "")
        assert f"{needed} is needed by the job itself" in err
        assert (needed.read_bytes() if needed.exists() else None) == before


def test_whoever_was_present_once_makes_every_verification_fail_until_he_is_found_absent(
    ledger: Path, sim: Simulator, say: Say
) -> None:
    again = sim.add_profile(customer_user_id=prefilled_customer_user_id(2))
    assert say("verify", ledger, *AT_ONCE)[0] == 1
    sim.profiles.remove(again)
    assert say("verify", ledger, "--remaining", *AT_ONCE)[0] == 2
    for _ in range(3):
        asked = next(iter(csv.DictReader(io.StringIO(say("export", ledger)[1]))))
        status, _, err = say("verify", ledger, "--sample", "1", *AT_ONCE)
        assert asked["present"] == "no"
        left = any(row["present"] == "yes" for row in csv.DictReader(io.StringIO(say("export", ledger)[1])))
        assert (status, "adapty-async report" in err) == ((1, True) if left else (0, False))
    assert say("verify", ledger, *AT_ONCE)[0] == 0


def test_one_person_of_a_job_of_the_library_that_was_stopped_can_be_looked_up(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    listed = [prefilled_customer_user_id(number) for number in range(1, 3001)]

    async def work() -> None:
        async with AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
            job = bulk.delete_profiles(
                client, listed, by="customer_user_id", pacer=UNPACED, ledger=Ledger(tmp_path / "job.db")
            )
            assert (await job).stop_reason is StopReason.MAX_ABSENT_RATIO
            assert not job.report.input_exhausted

    asyncio.run(work())
    status, out, _ = say("show", tmp_path / "job.db", FIRST)
    assert status == 0
    assert "Adapty accepted the deletion (204)" in out


def test_an_input_that_has_grown_is_not_exported_or_verified_as_if_it_were_the_same(
    ledger: Path, people: Path, sim: Simulator, say: Say
) -> None:
    with people.open("a") as file:
        file.write("\nn,late\n")
    for command in (("export", ledger, "--ids", "plain"), ("verify", ledger)):
        status, out, err = say(*command)
        assert (status, out) == (5, "")
        assert "--allow-appended" in err


def test_whoever_is_present_is_shown_by_the_export_and_written_down_for_a_new_deletion(
    ledger: Path, sim: Simulator, say: Say, tmp_path: Path
) -> None:
    second = prefilled_customer_user_id(2)
    sim.add_profile(customer_user_id=second)
    present = tmp_path / "present.csv"
    status, _, err = say("verify", ledger, *AT_ONCE)
    assert status == 1
    assert f"adapty-async verify {ledger} --present present.csv\n" in err
    assert say("verify", ledger, *AT_ONCE, "--present", present)[0] == 1
    exported = [*csv.DictReader(io.StringIO(say("export", ledger)[1]))]
    assert Counter(row["present"] for row in exported) == {"no": 27, "yes": 1, "": 2}
    assert exported[1]["present"] == "yes"
    assert all(bool(row["present"]) == bool(re.fullmatch(r"2\d{3}-.*Z", row["verified"])) for row in exported)
    with present.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["name"], row["customer_user_id"], row["adapty_line"]) == ("n1", second, "3")
    assert row["adapty_reason"].startswith("present at 2")
    status, _, err = say("verify", ledger, "--sample", "1", *AT_ONCE, "--present", tmp_path / "again.csv")
    (apply_column_type,) = re.findall(r"^  adapty-async (delete .*)$", err, re.MULTILINE)
    assert say(*shlex.split(apply_column_type), "--yes", *AT_ONCE)[0] == 0
    assert second not in sim.profiles.customer_user_ids


def test_where_nobody_is_present_no_file_is_made(ledger: Path, say: Say, tmp_path: Path) -> None:
    assert say("verify", ledger, *AT_ONCE, "--present", tmp_path / "present.csv")[0] == 0
    assert not (tmp_path / "present.csv").exists()


def test_a_file_for_the_present_that_cant_be_made_is_refused_before_anybody_is_asked_for(
    ledger: Path, people: Path, sim: Simulator, say: Say
) -> None:
    before = sim.stats.requests
    for has_reached_server, says in (
        (people, "give --present another name"),
        (f"{ledger}-wal", "is needed by the job itself"),
    ):
        status, _, err = say("verify", ledger, *AT_ONCE, "--present", has_reached_server)
        assert status == 2
        assert says in err
    assert sim.stats.requests == before
