"""A command that the system refuses files ends with one sentence."""

import errno
import resource
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from tests.cli.served import environment
from tests.cli.witness import Say, Witness, ledger_of

TOO_LONG = "n" * 300


@pytest.mark.parametrize("limit", [8, 12, 16, 20])
def test_too_few_open_files_are_told_before_anything_is_done(tmp_path: Path, limit: int) -> None:
    people = tmp_path / "people.csv"
    people.write_text("customer_user_id\nu1\n", encoding="utf-8")
    delete = f"exec {sys.executable} -m adapty_async delete {people} --by customer_user_id --yes"
    ended = subprocess.run(  # noqa: S603 - our own command
        ["/bin/sh", "-c", f"ulimit -n {limit}; {delete}"],
        env=environment({"ADAPTY_API_KEY": "key", "ADAPTY_BASE_URL": "http://127.0.0.1:9"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"adapty-async: this process may open only {limit} files, including those that are open already: raise the "
        "limit, as with ulimit -n 1024, then run the command again\n"
    )
    assert list(tmp_path.iterdir()) == [people]


def test_a_process_whose_files_are_all_open_is_told_so(
    witness: Witness, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr("os.listdir", lambda _: _raise(OSError(errno.EMFILE, "Too many open files")))
    code, _, err = say("delete", people, "--by", "customer_user_id", "--yes")
    assert code == 2
    assert "may open only 1024 files" in err


def test_too_many_open_files_later_are_one_sentence(say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "adapty_async.cli.jobs.status.show_status",
        lambda *_, **__: _raise(OSError(errno.EMFILE, "Too many open files")),
    )
    code, _, err = say("status", tmp_path / "ledger.db")
    assert (code, err) == (
        1,
        "adapty-async: Too many open files: raise the limit (ulimit -n), then run the command again\n",
    )


@pytest.mark.parametrize("option", ["--failures", "--exclude", "--ledger"])
def test_a_name_that_is_too_long_is_one_sentence(
    witness: Witness, people: Path, say: Say, tmp_path: Path, option: str
) -> None:
    name = tmp_path / TOO_LONG
    code, out, err = say("delete", people, "--by", "customer_user_id", "--yes", option, name)
    assert (code, out) == (5 if option == "--ledger" else 2, "")
    assert len(err.splitlines()) == 1
    assert f"{name} " in err
    assert "too long" in err
    assert witness.stats.requests == 0
    assert not ledger_of(people).exists()


def test_an_input_whose_ledger_would_have_a_name_that_is_too_long_is_refused(
    witness: Witness, say: Say, tmp_path: Path
) -> None:
    people = tmp_path / f"{'n' * 245}.csv"
    people.write_text("customer_user_id\nu1\n", encoding="utf-8")
    code, _, err = say("delete", people, "--by", "customer_user_id", "--yes")
    assert code == 5
    assert "File name too long" in err
    assert list(tmp_path.glob("n*")) == [people]


def _raise(error: OSError) -> NoReturn:
    raise error
