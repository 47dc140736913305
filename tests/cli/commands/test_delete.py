import csv
import io
import re
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapty_async.cli import main, signals
from adapty_async.cli.inputs.job_input import JobInput
from adapty_async.cli.jobs import ledger_job as recorded
from adapty_async.cli.jobs.failed_rows_file import FailedRow
from adapty_async.cli.signals import InterruptHandler
from adapty_async.ledger import LedgerReader
from adapty_async.testing import Simulator, prefilled_customer_user_id
from tests.cli.conftest import Delete
from tests.cli.served import AT_ONCE, ids_file
from tests.cli.witness import Say

KEY = "secret_live_simulated"


def figures(summary: str) -> dict[str, str]:
    """Return the names and figures in a summary."""
    return dict(re.findall(r"^(\w+) +([\d,.]+)", summary, re.MULTILINE))


def failures_in(path: Path) -> list[tuple[str, str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["customer_user_id"], row["adapty_outcome"], row["adapty_line"]) for row in csv.DictReader(file)]


def test_every_profile_is_deleted_and_counted(
    sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert delete(ids_file(tmp_path, 30)) == 0
    assert len(sim.profiles) == 0
    shown = capsys.readouterr()
    counted = figures(shown.out)
    assert (counted["deleted"], counted["total"], counted["requests"]) == ("30", "30", "30")
    assert (counted["retries"], counted["throttled"]) == ("0", "0")
    assert {"seconds", "rate"} <= counted.keys()
    assert "stopped" not in shown.out
    assert "30 rows, 30 profiles to delete" in shown.err
    assert "30 of 30 rows" in shown.err


def test_each_row_has_one_outcome_and_each_id_one_request(
    sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [prefilled_customer_user_id(number) for number in range(1, 21)]
    rows = [*known, known[0], " 21", "nobody", "a,b", known[0]]
    path = tmp_path / "people.csv"
    path.write_text("\n".join(["customer_user_id", *rows]))
    assert delete(path, "--failures", tmp_path / "failures.csv") == 1
    counted = figures(capsys.readouterr().out)
    assert {name: counted[name] for name in ("deleted", "already_absent", "duplicate", "invalid", "total")} == {
        "deleted": "20",
        "already_absent": "1",
        "duplicate": "2",
        "invalid": "2",
        "total": str(len(rows)),
    }
    assert sim.stats.requests == 21
    assert sorted(failures_in(tmp_path / "failures.csv")) == [("", "invalid", "25"), (" 21", "invalid", "23")]


def test_invalid_rows_are_shown_by_their_line_and_the_rest_is_sent(
    sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ids_file(tmp_path, 30)
    with path.open("a") as file:
        file.write("\na,b\n bad\n")
    assert delete(path) == 1
    assert len(sim.profiles) == 0
    shown = capsys.readouterr()
    assert "line 32: the row has 2 fields instead of 1" in shown.err
    assert "line 33: customer_user_id has leading or trailing white space" in shown.err


def test_only_the_first_invalid_rows_are_shown(
    sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ids_file(tmp_path, 30)
    with path.open("a") as file:
        file.write("\n" + "a,b\n" * 12)
    assert delete(path) == 1
    shown = capsys.readouterr().err
    assert shown.count("2 fields instead of 1") == 10
    assert "and more" in shown


def test_ids_keep_their_zeros_their_case_and_their_letters(sim: Simulator, delete: Delete, tmp_path: Path) -> None:
    for id_ in ("007", "User", "Müller"):
        sim.add_profile(customer_user_id=id_)
    path = tmp_path / "ids.txt"
    path.write_text("007\nUser\nMüller\n", encoding="utf-8")
    assert delete(path) == 0
    assert not {"007", "User", "Müller"} & sim.profiles.customer_user_ids
    assert sim.stats.count_responses(204) == 3


def test_profiles_are_deleted_by_profile_id(sim: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("\n".join(["profile_id", *sim.profiles]))
    assert main(["delete", *AT_ONCE, str(path), "--by", "profile_id", "--yes"]) == 0
    assert len(sim.profiles) == 0


def test_ids_come_from_standard_input(sim: Simulator, delete: Delete, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = "\n".join(map(prefilled_customer_user_id, range(1, 31)))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ids.encode())))
    assert delete("-") == 0
    assert len(sim.profiles) == 0


def test_a_closed_standard_input_is_refused(
    sim: Simulator, delete: Delete, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert delete("-") == 2
    assert "no standard input" in capsys.readouterr().err


def test_standard_input_that_cannot_be_read_is_refused(
    sim: Simulator, delete: Delete, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with (tmp_path / "written").open("w") as only_written:
        monkeypatch.setattr("sys.stdin", only_written)
        assert delete("-") == 2
    assert "copied" in capsys.readouterr().err


def test_never_more_requests_are_under_way_than_concurrency_allows(
    sim: Simulator, delete: Delete, tmp_path: Path
) -> None:
    sim.latency = 0.005
    assert delete(ids_file(tmp_path, 30), "--concurrency", 3) == 0
    assert sim.stats.max_in_flight == 3


def test_the_rate_is_held(sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert delete(ids_file(tmp_path, 30), "--max-rate", 300) == 0
    assert float(figures(capsys.readouterr().out)["seconds"]) >= 0.05


def test_no_id_and_no_key_is_on_the_screen(
    sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ids_file(tmp_path, 30)
    with path.open("a") as file:
        file.write("\n ann@example.com\nann,example.com\n")
    assert delete(path) == 1
    shown = "".join(capsys.readouterr())
    assert not re.search(r"user-0|example|ann", shown.replace("and", ""))
    assert sim.api_key not in shown


# Early ends of a deletion


def test_a_wrong_key_ends_the_job_with_exit_4(
    sim: Simulator, delete: Delete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_another_app")
    assert delete(ids_file(tmp_path, 30), "--concurrency", 2, "--failures", tmp_path / "failures.csv") == 4
    shown = capsys.readouterr()
    assert "stopped: credentials" in shown.out
    assert "ADAPTY_API_KEY" in shown.out
    assert figures(shown.out)["total"] == "30"
    assert len(failures_in(tmp_path / "failures.csv")) == 30
    assert sim.stats.requests < 10


def test_a_list_that_finds_nobody_ends_with_exit_3_and_says_what_to_check(
    sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("\n".join(f"stranger-{number}" for number in range(500)))
    assert delete(path, "--concurrency", 5, "--failures", tmp_path / "failures.csv") == 3
    shown = capsys.readouterr()
    assert "stopped: max_absent_ratio" in shown.out
    assert "--column" in shown.out
    counted = figures(shown.out)
    assert counted["total"] == "500"
    left = failures_in(tmp_path / "failures.csv")
    assert len(left) == int(counted["not_attempted"])
    assert left[-1] == ("stranger-499", "not_attempted", "500")


def test_the_failures_can_be_fed_back(
    sim: Simulator, delete: Delete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = tmp_path / "failures.csv"
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_another_app")
    assert delete(ids_file(tmp_path, 30), "--failures", failures, "--no-ledger") == 4
    assert f"adapty-async delete {failures} --by customer_user_id" in capsys.readouterr().err
    monkeypatch.setenv("ADAPTY_API_KEY", sim.api_key)
    assert delete(failures) == 0
    assert len(sim.profiles) == 0


def test_an_interrupt_while_the_rest_is_written_down_hides_no_status_and_no_figure(
    sim: Simulator, delete: Delete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = tmp_path / "failures.csv"
    read = recorded.iter_failed_rows

    def interrupted(reader: LedgerReader, ids: JobInput) -> Iterator[FailedRow]:
        for failure in read(reader, ids):
            if failure.row.line == 20:
                raise KeyboardInterrupt
            yield failure

    monkeypatch.setattr(recorded, "iter_failed_rows", interrupted)
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_another_app")
    assert delete(ids_file(tmp_path, 30), "--failures", failures, "--no-ledger", "--concurrency", 1) == 4
    shown = capsys.readouterr()
    assert figures(shown.out)["total"] == "30"
    assert "stopped: credentials" in shown.out
    assert f"{failures} contains only some of the 30 rows that failed" in shown.err
    assert shown.err.endswith("adapty-async: interrupted\n")
    assert len(failures_in(failures)) == 18


def test_an_interrupt_at_the_end_of_the_loop_hides_no_figure(
    sim: Simulator, delete: Delete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = signals.run_event_loop

    def interrupted(main: Callable[[InterruptHandler], Coroutine[Any, Any, Any]]) -> None:
        run(main)
        raise KeyboardInterrupt

    monkeypatch.setattr("adapty_async.cli.jobs.ledger_job.run_event_loop", interrupted)
    assert delete(ids_file(tmp_path, 30), "--no-ledger") == 130
    assert figures(capsys.readouterr().out)["deleted"] == "30"


def test_without_a_file_for_them_failures_are_pointed_to(
    sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ids_file(tmp_path, 30)
    with path.open("a") as file:
        file.write("\n bad")
    assert delete(path, "--no-ledger") == 1
    assert "--failures FILE.csv" in capsys.readouterr().err


# Refusals before the first request


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "contains no IDs"),
        ("id,mail\n1,a@b.example\n", "'id', 'mail'"),
        ("u1\n1.23E+15\n", "line 2"),
        ('u1\n"u2\nu3\n', "line 2"),
    ],
)
def test_bad_input_is_exit_2_and_nothing_is_sent(
    sim: Simulator, delete: Delete, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(content)
    assert delete(path, "--failures", tmp_path / "failures.csv") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert sentence in shown.err
    assert sim.stats.requests == 0
    assert not (tmp_path / "failures.csv").exists()


def test_a_failures_file_that_exists_is_exit_2_and_nothing_is_sent(
    sim: Simulator, delete: Delete, tmp_path: Path
) -> None:
    path = ids_file(tmp_path, 30)
    assert delete(path, "--failures", path) == 2
    assert sim.stats.requests == 0
    assert path.read_text().startswith("customer_user_id")


@pytest.mark.parametrize("key", ["", "Api-Key secret", "secret\n"])
def test_a_missing_or_malformed_key_is_exit_4(
    sim: Simulator,
    delete: Delete,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key: str,
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", key)
    assert delete(ids_file(tmp_path, 3)) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "key" in line.lower()
    assert "secret\n" not in line


def test_the_key_may_come_from_a_file(
    sim: Simulator, delete: Delete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.txt").write_text(f"{sim.api_key}\n")
    monkeypatch.delenv("ADAPTY_API_KEY")
    monkeypatch.setenv("ADAPTY_API_KEY_FILE", str(tmp_path / "key.txt"))
    assert delete(ids_file(tmp_path, 30)) == 0


@pytest.mark.parametrize("url", ["nonsense", "http://api.adapty.io", "https://user:pass@api.adapty.io"])
def test_a_bad_address_is_exit_2_and_named_by_its_variable(
    sim: Simulator,
    delete: Delete,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
) -> None:
    monkeypatch.setenv("ADAPTY_BASE_URL", url)
    assert delete(ids_file(tmp_path, 3)) == 2
    assert "ADAPTY_BASE_URL" in capsys.readouterr().err


def test_without_a_terminal_a_deletion_wants_yes(
    sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(ids_file(tmp_path, 30))
    for arguments in ([path], ["-"]):
        assert main(["delete", *arguments, "--by", "customer_user_id"]) == 2
        assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", None)
    assert main(["delete", path, "--by", "customer_user_id"]) == 2
    assert sim.stats.requests == 0


# Confirmation on a terminal


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "status", "left"), [("30\n", 0, 0), (" 30 \n", 0, 0), ("y\n", 2, 30), ("", 2, 30)])
def test_the_number_of_profiles_confirms_a_deletion(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, status: int, left: int
) -> None:
    screen = Keyboard()
    monkeypatch.setattr("sys.stdin", Keyboard(typed))
    monkeypatch.setattr("sys.stderr", screen)
    assert main(["delete", *AT_ONCE, str(ids_file(tmp_path, 30)), "--by", "customer_user_id"]) == status
    assert "Type 30 to delete them" in screen.getvalue()
    assert len(sim.profiles) == left


def test_a_quiet_job_shows_its_summary_and_errors_alone(sim: Simulator, tmp_path: Path, say: Say) -> None:
    command = ("delete", *AT_ONCE, ids_file(tmp_path, 30), "--by", "customer_user_id", "--yes", "--quiet")
    status, out, err = say(*command)
    assert (status, err) == (0, "")
    assert re.search("^deleted +30 ", out, re.MULTILINE)
    assert len(sim.profiles) == 0
    status, out, err = say(*command)
    assert (status, out) == (5, "")
    assert re.fullmatch("adapty-async: [^\n]+\n", err)
    resumed = say("resume", tmp_path / "people.csv.adapty.db", "-q", "--failures", tmp_path / "failures.csv")
    assert (resumed[0], resumed[2]) == (0, "")
