"""Output of a command apart from its screen: events, the log file and tracebacks, with their options."""

import asyncio
import json
import logging
import os
import re
import signal
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from adapty_async import UNPACED, AdaptyClient, FixedPacer, bulk
from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.output.command_output import Output, RecentErrors, build_internal_error, use_output
from adapty_async.cli.output.log_file import log_to_file
from adapty_async.cli.output.progress import ProgressView
from adapty_async.cli.signals import InterruptHandler, install_interrupt_handlers
from adapty_async.http.sender import Attempt
from adapty_async.ledger import LedgerReader
from adapty_async.testing import Fault, Simulator
from tests.cli.jobs.test_run import Screen
from tests.cli.runs import run_of
from tests.cli.served import AT_ONCE, ids_file
from tests.cli.witness import Say, ids, ledger_of, run
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def events(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def attempt(error: str | None, status: int | None = None) -> Attempt:
    return Attempt("DELETE", "/", 1, status, error, 0.1, None)


# Events


def test_events_are_all_of_standard_output_and_end_with_counts_and_status(
    say: Say, people: Path, sim: Simulator
) -> None:
    sim.faults.inject(Fault.UNAVAILABLE)
    status, out, err = say(*DELETE, people, "--json")
    told = events(out)
    assert status == 0
    assert "Traceback" not in err
    assert {event["event"] for event in told} >= {"progress", "end"}
    *_, last, end = told
    assert (last["event"], last["done"], last["total"], last["counts"]) == ("progress", 30, 30, {"deleted": 30})
    assert [error.split("  ")[1] for error in last["errors"]] == ["ServerError 503"]  # type: ignore[attr-defined]
    assert (
        end.items() >= {"event": "end", "status": 0, "error": None, "stopped": None, "counts": {"deleted": 30}}.items()
    )
    assert "example.com" not in out + err


def test_a_verification_and_a_resumption_tell_their_end_as_well(say: Say, people: Path, sim: Simulator) -> None:
    assert say(*DELETE, people)[0] == 0
    sim.add_profile(customer_user_id="user-000003@example.com")
    status, out, _ = say("verify", ledger_of(people), *AT_ONCE, "--json")
    assert status == 1
    assert events(out)[-1].items() >= {"status": 1, "present": 1, "absent": 29, "unknown": 0}.items()
    status, out, _ = say("resume", ledger_of(people), *AT_ONCE, "--json")
    assert (status, events(out)[-1]["counts"]) == (0, {"deleted": 30})


def test_what_was_never_sent_ends_with_the_sentence(say: Say, tmp_path: Path, sim: Simulator) -> None:
    status, out, err = say(*DELETE, tmp_path / "missing.csv", "--json")
    (end,) = events(out)
    assert (status, end["status"]) == (2, 2)
    assert f"adapty-async: {end['error']}\n" == err
    assert sim.stats.requests == 0


@pytest.mark.usefixtures("sim")
def test_without_events_there_are_none(say: Say, people: Path) -> None:
    assert "{" not in say(*DELETE, people)[1]


# The log file


def test_the_log_has_times_what_happened_and_the_end_and_is_private(say: Say, people: Path, sim: Simulator) -> None:
    log = people.with_name("job.log")
    for expected in (0, 5):
        assert say(*DELETE, people, "--log-file", log)[0] == expected
    lines = log.read_text().splitlines()
    assert [line.split(maxsplit=2)[2].split(":")[0] for line in lines] == [
        f"the command begins, as process {os.getpid()}",
        "the command ends with exit status 0",
        f"the command begins, as process {os.getpid()}",
        "the command ends with exit status 5",
    ]
    assert all(line[10] == "T" and line[19] == "Z" and line[20:].startswith(" INFO ") for line in lines)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "example.com" not in log.read_text()
    assert sim.api_key not in log.read_text()
    assert logging.getLogger("adapty_async").handlers == []


def test_the_log_tells_each_attempt_that_failed_or_was_throttled_and_why_it_was_stopped(
    say: Say, people: Path, sim: Simulator
) -> None:
    log = people.with_name("job.log")
    people.write_text(people.read_text() + "n,nobody\n")  # an absent profile has an outcome but isn't logged
    sim.faults.inject(Fault.UNAVAILABLE, Fault.THROTTLED, *[Fault.REDIRECT] * 9)
    status, _, err = say(*DELETE, people, "--log-file", log, "--max-failures", 8, "--concurrency", 1)
    assert status == 3
    lines = [line.split(maxsplit=2) for line in log.read_text().splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at) for at, _, _ in lines)
    attempts = [text for _, level, text in lines if "attempt" in text]
    said = Counter(re.sub(r"\d+\.\d{3}", "S", re.sub(r"attempt [12]", "attempt N", text)) for text in attempts)
    assert said == {
        "DELETE, attempt N: ServerError 503 after S s, again in S s": 1,
        "DELETE, attempt N: RateLimitError 429 after S s, again in S s": 1,
        "DELETE, attempt N: AdaptyAPIError 307 after S s": 9,
    }
    (stopped,) = (text for _, _, text in lines if "stopped" in text)
    assert stopped.startswith("the job was stopped: max_failures: too many rows failed")
    assert "attempt 1" not in err
    assert not set(re.findall(r"\S+@\S+|nobody", log.read_text()))


async def test_the_log_tells_of_pauses(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    with log_to_file(log):
        async with Simulator(profiles=9) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
            job = bulk.delete_profiles(client, ids(9), by="customer_user_id", pacer=UNPACED)
            job.pause()
            job.unpause()
            await job
    said = [line.split(maxsplit=2)[2] for line in log.read_text().splitlines()]
    assert said[1:] == ["the job is paused: no new requests are sent", "the job is unpaused: requests are sent again"]


@pytest.mark.usefixtures("sim")
def test_a_log_that_others_could_read_is_made_private(say: Say, people: Path) -> None:
    log = people.with_name("job.log")
    log.touch(0o644)
    assert say(*DELETE, people, "--log-file", log)[0] == 0
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("where", ["people.csv", "missing/job.log", "."])
def test_a_log_that_cant_be_or_would_spoil_a_file_is_refused_before_anything_is_sent(
    where: str, say: Say, people: Path, sim: Simulator
) -> None:
    before = people.read_bytes()
    status, _, err = say(*DELETE, people, "--log-file", people.parent / where)
    assert status == 2
    assert "--log-file" in err
    assert len(err.splitlines()) == 1
    assert people.read_bytes() == before
    assert sim.stats.requests == 0


@pytest.mark.usefixtures("sim")
def test_a_full_disk_under_the_log_ends_no_job(say: Say, people: Path) -> None:
    status, _, err = say(*DELETE, people, "--log-file", "/dev/full")
    assert status == 0
    assert "Logging error" not in err


# The last errors


def test_the_last_three_kinds_of_errors_are_kept_by_class_and_status_alone() -> None:
    errors = RecentErrors()
    for error, status in [
        ("AdaptyTimeoutError", None),
        ("ServerError", 500),
        ("ServerError", 503),
        ("ServerError", 503),
        (None, 204),
        ("RateLimitError", 429),
        ("ProfileNotFoundError", 404),
        ("BadRequestError", 400),
    ]:
        errors.record(attempt(error, status))
    assert [line.split("  ")[1] for line in errors.format_lines()] == [
        "BadRequestError 400",
        "ServerError 503, 2 times",
        "ServerError 500",
    ]


# Tracebacks


def test_a_traceback_is_shown_where_it_is_wanted_without_values(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(who: str) -> None:
        raise LookupError(who)

    def fail_again(who: str) -> None:
        try:
            fail(who)
        except LookupError as error:
            raise ValueError(who) from error

    def bug() -> Exception:
        try:
            fail_again("ann@" + "example.com")
        except ValueError as error:
            return error
        raise AssertionError

    build_internal_error(bug())
    assert capsys.readouterr().err == ""
    with use_output(Output(debug=True)):
        build_internal_error(bug())
    shown = capsys.readouterr().err
    assert shown.count("Traceback (most recent call last):") == 2
    assert "in fail_again" in shown
    assert "LookupError" in shown
    assert "ann@example.com" not in shown


def test_the_way_to_a_refusal_is_shown_before_its_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("status", tmp_path / "none.db", "--debug") == 2
    shown = capsys.readouterr().err
    assert "in open_ledger" in shown
    assert shown.splitlines()[-1].startswith("adapty-async: ")


# The options of a run


def test_a_request_that_takes_longer_than_the_timeout_is_given_up_now_and_later(
    say: Say, people: Path, sim: Simulator
) -> None:
    sim.latency = 0.3
    people.write_text("customer_user_id\nuser-000001@example.com\n")
    _, out, _ = say(*DELETE, people, "--timeout", 0.1, "--json")
    assert "AdaptyTimeoutError" in str(events(out)[-2]["errors"])
    with LedgerReader(ledger_of(people)) as reader:
        assert reader.job_options["speed_options"]["timeout"] == 0.1
    _, out, _ = say("retry-failed", ledger_of(people), "--timeout", 10, "--json")
    assert events(out)[-2]["errors"] == []


@pytest.mark.parametrize("timeout", ["0", "-1", "601", "soon"])
def test_a_timeout_that_is_none_is_refused(timeout: str, say: Say, people: Path) -> None:
    assert say(*DELETE, people, "--timeout", timeout)[0] == 2


# SIGUSR1 and SIGUSR2


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


class Looking(Screen):
    """A screen that is updated often. `is_quiet`: the job is paused and no requests are in flight."""

    interval = 0.005
    is_quiet = False

    def show(self, view: ProgressView) -> None:
        self.is_quiet = view.live_status.is_paused and not view.live_status.in_flight


async def test_a_signal_pauses_the_job_and_another_one_unpauses_it_once(
    tmp_path: Path,
) -> None:
    async with Simulator(profiles=300) as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
        with (
            open_id_input(ids_file(tmp_path, 300), by="customer_user_id") as listed,
            run_of(client, listed, concurrency=5, pacer=FixedPacer(1000)) as deletion,
            InterruptHandler() as interrupts,
        ):
            screen = Looking()
            running = asyncio.create_task(deletion.run(screen, interrupts))
            await until(lambda: sim.stats.requests > 20)
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGUSR1)
            await until(lambda: screen.is_quiet)  # a request that was sent may not have reached the server yet
            sent = sim.stats.requests
            await asyncio.sleep(0.1)
            assert sim.stats.requests == sent < 300
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGUSR2)
            await running
            assert deletion.ended().outcome_counts.by_outcome == Counter(deleted=300)
    assert [said.split(":")[0] for said in screen.messages] == ["the job is paused", "the job is unpaused"]


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2])
async def test_where_no_job_runs_the_signal_does_nothing(signum: int) -> None:
    install_interrupt_handlers()
    os.kill(os.getpid(), signum)
    with InterruptHandler():
        os.kill(os.getpid(), signum)
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signum)
