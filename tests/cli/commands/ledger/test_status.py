"""The command `status` during a job: it shows the contents of the job's screen, but only while the job runs."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapty_async.cli import main
from adapty_async.cli.output.progress import OutcomeCounts, ProgressView
from adapty_async.ledger import LedgerReader
from adapty_async.ledger.store import Store
from adapty_async.testing import Fault, Simulator
from tests.cli.output.test_progress_screen import FULL
from tests.cli.served import acting_after, ids_file, served, settings_for, started, wait_until
from tests.cli.witness import Say, Witness, ledger_of
from tests.waiting import PATIENCE

PEOPLE = 10_000


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with served(Simulator(profiles=PEOPLE, rate=60, burst=5, latency=0.02)) as running:
        yield running


@contextmanager
def running(sim: Simulator, folder: Path) -> Iterator[Any]:
    people = ids_file(folder, PEOPLE)
    command = ["delete", str(people), "--by", "customer_user_id", "--yes", "--pace", "full"]
    with started(command, {**settings_for(sim), "XDG_STATE_HOME": str(folder)}) as process:
        yield process


def seen(say: Say, ledger: Path) -> dict[str, Any]:
    status, out, _ = say("status", ledger, "--json")
    assert status == 0
    told: dict[str, Any] = json.loads(out)
    return told


def progress(say: Say, ledger: Path) -> dict[str, Any]:
    return seen(say, ledger)["progress"] or {}


def test_it_shows_what_the_screen_does_paused_or_not_until_the_job_is_killed(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(tmp_path / "people.csv")
    sim.inject(Fault.UNAVAILABLE, Fault.UNAVAILABLE)
    with running(sim, tmp_path) as process:
        wait_until(lambda: ledger.exists() and progress(say, ledger).get("limit") is not None)
        told = progress(say, ledger)
        assert 0 < told["limit"] < 500
        assert 0 < told["done"] < told["total"] == PEOPLE
        assert told["throttled"] > 0
        assert told["latency"] >= 0.02
        assert [error.split("  ")[1] for error in told["errors"]] == ["ServerError 503, 2 times"]
        _, out, _ = say("status", ledger)
        for line in (
            r"it is running\n\d[\d,]* of 10,000 rows\n\d[\d,]* deleted",
            r"[\d.]+/s, the limit is [\d.]+/s; 0:\d\d:\d\d left, until \d\d:\d\d( on \d\d \w+)?",
            r"\d+\.\d% rate-limited, \d+ in flight, latency \d+ ms",
            r"last errors:\n  \d\d:\d\d:\d\d  ServerError 503, 2 times",
        ):
            assert re.search(rf"^{line}$", out, re.MULTILINE), out
        told = seen(say, ledger)
        assert told["totals"].keys() == {"deleted"}  # requests in flight aren't in doubt
        assert told["totals"]["deleted"] + told["waiting"] + told["claimed"] == told["total"]
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: progress(say, ledger)["paused"])
        assert "\npaused: no new requests are sent; to unpause, use adapty-async unpause" in say("status", ledger)[1]
        process.send_signal(signal.SIGUSR2)
        wait_until(lambda: not progress(say, ledger)["paused"])
        process.kill()
        process.wait()
    dead = seen(say, ledger)
    assert (dead["running"], dead["progress"]) == (False, None)
    assert dead["resume_command"] == f"adapty-async resume {ledger}"
    status, out, err = say("status", ledger)
    assert status == 0
    assert "it isn't running\n" in out
    assert "refused" not in out
    assert f"adapty-async resume {ledger}" in err
    assert b"example.com" not in b"".join(file.read_bytes() for file in tmp_path.glob("people.csv.*"))

    # The last status of the killed process isn't used for another process that has the ledger afterwards.
    with LedgerReader(ledger) as reader:
        assert reader.live_status is not None
    monkeypatch.setattr("adapty_async.cli.jobs.status._MAX_LIVE_STATUS_AGE", timedelta(0))
    with Store.open(ledger):
        assert progress(say, ledger)["requests"] is None


def test_after_its_end_nothing_is_left_of_it(sim: Simulator, tmp_path: Path, say: Say) -> None:
    ledger = ledger_of(tmp_path / "people.csv")
    with running(sim, tmp_path) as process:
        wait_until(lambda: ledger.exists() and progress(say, ledger).get("rate") is not None)
        process.send_signal(signal.SIGINT)
        process.communicate()
    told = seen(say, ledger)
    assert told["progress"] is None
    assert told["waiting"] > 0
    assert [run["ended"] is not None for run in told["runs"]] == [True]
    with LedgerReader(ledger) as reader:
        assert reader.live_status is None


def test_what_is_told_comes_back_as_it_was() -> None:
    hour = datetime.now().astimezone()
    again = ProgressView.from_dict(json.loads(json.dumps(FULL.to_dict())), FULL.live_status.outcome_counts, hour)
    assert again.lines[:1] + again.lines[2:] == FULL.lines[:1] + FULL.lines[2:]
    assert again.rate_text == FULL.rate_text
    assert again.time_left == FULL.time_left == timedelta(seconds=2000)
    later = ProgressView.from_dict(FULL.to_dict(), OutcomeCounts(20_000, {}), hour)
    assert (later.done_text, later.time_left) == ("0 of 20,000 rows", timedelta(seconds=4000))


def test_one_object_is_not_watched(say: Say, tmp_path: Path) -> None:
    assert say("status", tmp_path / "job.db", "--json", "--watch")[0] == 2


def test_a_job_that_is_done_does_not_run_while_it_is_verified(witness: Witness, people: Path, say: Say) -> None:
    ledger = ledger_of(people)
    assert main(["delete", str(people), "--by", "customer_user_id", "--yes", "--pace", "1000"]) == 0
    told: list[str] = []

    def look() -> None:
        for options in (["--json"], [], ["--watch"]):
            with started(["status", str(ledger), *options], {}) as beside:
                told.append(beside.communicate(timeout=PATIENCE)[0].decode())

    with acting_after(witness, 1, look):
        assert main(["verify", str(ledger), "--concurrency", "1", "--timeout", "600"]) == 0
    as_json = json.loads(told[0])
    assert (as_json["running"], as_json["in_use"], as_json["progress"]) == (False, True, None)
    assert all("\nit isn't running, but in use by another command\n" in text for text in told[1:])
    assert not seen(say, ledger)["in_use"]
    assert "\nit isn't running\n" in say("status", ledger)[1]
