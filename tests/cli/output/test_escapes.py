"""Names of files and columns, notes and options have no effect on a terminal, a log or the reader of a record."""

import csv
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from adapty_async.testing.responses import SimulatedResponse
from tests.cli.served import AT_ONCE, environment, interrupting_after, settings_for
from tests.cli.witness import Say, Witness, ids
from tests.waiting import PATIENCE

ACTIVE = "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\ \x1b[2J[red]\u202e\x9b1m"
LINK = "[a](http://evil.example) <b> | `c` | *d*"
DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def assert_harmless(*texts: str) -> None:
    for text in texts:
        found = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
        assert not found, text


@pytest.fixture
def odd(people: Path) -> Path:
    """Create an input whose file and column names contain terminal sequences and line breaks."""
    column = f"id {ACTIVE}".replace("\n", " ")
    odd = people.with_name(f"p {ACTIVE.replace('/', ':')}\nadapty-async: all is well.csv")
    with odd.open("w", newline="") as file:
        csv.writer(file).writerows([["name", column], *(["n", id_] for id_ in ids(30)), ["n", ""]])
    return odd


def test_names_and_notes_do_nothing_where_they_are_shown(witness: Witness, odd: Path, say: Say, tmp_path: Path) -> None:
    column = f"id {ACTIVE}"
    ledger = odd.with_name(f"{odd.name}.adapty.db")
    log = tmp_path / "log"
    options = ("--column", column, "--operator", ACTIVE + LINK, "--request", f"={LINK}\n| x |", "--log-file", log)
    failures = odd.with_name(f"{odd.name} failures.csv")
    shown: list[str] = []

    def told(*arguments: object) -> tuple[int, str, str]:
        status, out, err = say(*arguments)
        assert not any(line.startswith("adapty-async: all is well") for line in [*out.splitlines(), *err.splitlines()])
        shown.extend((out, err))
        return status, out, err

    assert told("plan", odd, "--by", "customer_user_id", "--column", column)[0] == 0
    assert told("plan", odd, "--by", "customer_user_id", "--column", f"x{column}")[0] == 2
    assert told("plan", f"{odd}x", "--by", "customer_user_id")[0] == 2
    with interrupting_after(witness, 5):  # two at a time, so that most rows haven't been sent when the signal arrives
        status, _, err = told(*DELETE, odd, *options, "--failures", failures, "--concurrency", 2)
    assert status == 130
    assert told("resume", ledger, "--failures", failures)[0] == 2  # the file exists
    failures.unlink()
    assert told("resume", ledger, "--json", "--failures", failures)[0] == 1
    assert told("status", ledger)[0] == 0
    assert told("status", ledger, "--json")[0] == 0
    assert told("show", ledger, ids(1)[0])[0] == 0
    _, page, _ = told("report", ledger)
    _, record, _ = told("report", ledger, "--format", "json")
    assert told(*DELETE, odd, "--column", column)[0] == 5
    assert told("verify", ledger, *AT_ONCE)[0] == 0
    assert_harmless(*shown, log.read_text())

    # The content is shown, as text.
    assert json.loads(record)["runs"][0]["notes"]["operator"] == ACTIVE + LINK
    assert "](" not in page.replace(r"\]", "")
    assert not re.search(r"(?<!\\)://", page.replace(witness.base_url, ""))
    rows = [line for line in page.splitlines() if line.startswith("| 1 |")]
    assert [row.replace(r"\|", "").count("|") for row in rows] == [8]
    typed = next(line for line in err.splitlines() if line.startswith("  adapty-async resume"))
    assert typed.startswith("  adapty-async resume $'")


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="a shell that knows such quotes")
def test_the_command_that_goes_on_can_be_typed(witness: Witness, odd: Path, say: Say, tmp_path: Path) -> None:
    with interrupting_after(witness, 5):
        _, _, err = say(*DELETE, odd, "--column", f"id {ACTIVE}")
    typed = next(line for line in err.splitlines() if line.startswith("  adapty-async resume"))
    words = ["exec", sys.executable, "-m", typed.strip().replace("adapty-async", "adapty_async", 1)]
    done = subprocess.run(  # noqa: S603 - the output of the command
        ["/bin/bash", "-c", " ".join(words)],
        cwd=tmp_path,
        env=environment(settings_for(witness)),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # one row is invalid
    assert not witness.profiles


@pytest.mark.parametrize(
    "arguments",
    [("delete", "x", "--by", "profile_id", f"{ACTIVE}2"), (f"--{ACTIVE}",), ("delete", "x", "--by", ACTIVE)],
    ids=["argument", "option", "value"],
)
def test_wrong_usage_is_repeated_as_text(say: Say, arguments: tuple[str, ...]) -> None:
    status, out, err = say(*arguments)
    assert (status, out) == (2, "")
    assert r"\x1b" in err
    assert_harmless(err)


def test_what_a_server_says_is_no_formula_and_no_escape(
    witness: Witness, people: Path, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f'{{"error_code": "=cmd|x!A1{json.dumps(ACTIVE)[1:-1]}", "errors": ["=1"]}}'
    monkeypatch.setattr(witness, "_find_rejection", lambda _: SimulatedResponse(400, code.encode()))
    failures = tmp_path / "failures.csv"
    log = tmp_path / "log"
    for options in (("--no-ledger",), ()):
        _, out, err = say(
            *DELETE, people, *options, "--max-failures", "100%", "--failures", failures, "--log-file", log
        )
        written = failures.read_text()
        assert_harmless(out, err, written, log.read_text())
        with failures.open(newline="") as file:
            assert not any(row["adapty_reason"].startswith(("=", "+", "-", "@")) for row in csv.DictReader(file))
        failures.unlink()
