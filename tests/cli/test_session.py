"""A session of an operator: a real shell in a pseudo-terminal, the command and the simulator."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.served import ids_file, started, wait_until
from tests.cli.terminal import COLUMNS, Shell, shell_in
from tests.waiting import PATIENCE

PEOPLE = 600


@pytest.fixture
def settings() -> Iterator[dict[str, str]]:
    """Run a simulator as a process. Return the environment variables that point to it."""
    with started(["simulator", "--profiles", str(PEOPLE)], {}) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())
        yield {"ADAPTY_API_KEY": address["api_key"], "ADAPTY_BASE_URL": address["base_url"]}


@pytest.fixture
def shell(tmp_path: Path, settings: dict[str, str]) -> Iterator[Shell]:
    with shell_in(tmp_path, settings) as opened:
        yield opened


def test_a_deletion_is_typed_paused_interrupted_gone_on_with_verified_and_recorded(
    shell: Shell, settings: dict[str, str], tmp_path: Path
) -> None:
    ids_file(tmp_path, PEOPLE)

    # Confirm a job with its number, watch it, pause it with a signal, unpause it, and stop it with Ctrl-C.
    shell.enter("adapty-async delete people.csv --by customer_user_id --pace 100")
    shell.until(f"Type {PEOPLE} to delete them: $")
    shell.type(f"{PEOPLE}\n")
    shell.until(r"[1-9]\d* deleted")
    shell.signal(signal.SIGUSR1)
    shell.until("paused: no new requests are sent; to unpause")
    told = ""

    def is_paused() -> bool:  # the screen as of a second or two ago
        nonlocal told
        with started(["status", "people.csv.adapty.db"], settings, cwd=tmp_path) as beside:
            told = beside.communicate(timeout=PATIENCE)[0].decode()
            return beside.returncode == 0 and "\npaused: no new requests are sent; to unpause" in told

    wait_until(is_paused)
    assert re.search(rf"^it is running\n\d+ of {PEOPLE} rows\n\d+ deleted\npaused", told, re.MULTILINE)
    assert re.search(r"^\d+\.\d% rate-limited, \d+ in flight, latency \d+ ms$", told, re.MULTILINE)
    shell.signal(signal.SIGUSR2)
    shell.until("the job is unpaused")
    shell.type("\x03")
    status, screen = shell.ended()
    assert status == 130
    page = assert_calm(screen)
    assert f"of {PEOPLE} rows" in page
    assert re.search(r"\d+% rate-limited, \d+ in flight, latency \d+ ms", page)
    assert "Stopping: waiting for requests in flight" in page
    assert "stopped: requested: by Ctrl-C, SIGTERM" in page
    assert screen[-1] == "  adapty-async resume people.csv.adapty.db"

    # Resume the job, and watch it from another terminal that is opened before the job ends.
    shell.enter("adapty-async resume people.csv.adapty.db --pace 5")
    shell.until(f"of {PEOPLE} rows")
    with started(["status", "people.csv.adapty.db", "--watch"], settings, cwd=tmp_path) as watching:
        assert watching.stdout is not None
        seen = watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        complaint = watching.communicate(timeout=PATIENCE)[1]
        assert (watching.returncode, complaint) == (130, b"adapty-async: interrupted\n")
    assert re.match(rb"\d+ of 600 rows; [\d.]+/s; \d:\d\d:\d\d left, until \d\d:\d\d", seen)
    shell.type("\x03")
    assert shell.ended()[0] == 130
    shell.enter("adapty-async resume people.csv.adapty.db --pace 1000")
    status, screen = shell.ended()
    assert status == 0
    page = assert_calm(screen)
    assert f"{PEOPLE} of {PEOPLE} rows" in page
    assert re.search(rf"^deleted +{PEOPLE}  ", page, re.MULTILINE)

    # Verify some of the profiles, and write the record.
    shell.enter("adapty-async verify people.csv.adapty.db --sample 10% --pace 1000")
    status, screen = shell.ended()
    assert status == 0
    assert re.search(r"^absent +60  ", assert_calm(screen), re.MULTILINE)
    shell.enter("adapty-async report people.csv.adapty.db --format json -o record.json")
    status, screen = shell.ended()
    assert (status, len(screen)) == (0, 1)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["totals"] == {"deleted": PEOPLE}
    assert len(record["runs"]) == 3

    # Remove the data that leads to an ID, after typing the confirmation.
    shell.enter("adapty-async anonymize people.csv.adapty.db")
    shell.until("Type anonymize to confirm: $")
    shell.type("anonymize\n")
    status, screen = shell.ended()
    assert status == 0
    assert "people.csv.adapty.db is anonymous" in "\n".join(screen)
    assert not (tmp_path / "people.csv.adapty.db.key").exists()

    assert "example.com" not in shell.everything + seen.decode() + told
    assert "Traceback" not in shell.everything


def assert_calm(screen: list[str]) -> str:
    """Check that the progress is redrawn in place: all output of a command fits on a terminal, with one bar."""
    assert len(screen) <= 30
    assert sum("\N{BOX DRAWINGS HEAVY HORIZONTAL}" in line for line in screen) == 1
    assert all(len(line) <= COLUMNS for line in screen)
    return "\n".join(screen)
