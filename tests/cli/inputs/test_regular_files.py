"""Paths opened by a later command must still be files: opening a pipe would wait for its writer forever."""

import os
import subprocess
from pathlib import Path

import pytest

from adapty_async.ledger import Spool
from adapty_async.ledger.id_key import get_key_path
from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE, settings_for, started
from tests.cli.witness import Witness, ids, ledger_of, run
from tests.waiting import PATIENCE

DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes")


def ends(witness: Witness, *command: object) -> tuple[int, str]:
    """Run a command in a process of its own. It must end."""
    with started(list(map(str, command)), settings_for(witness)) as process:
        _, err = process.communicate(timeout=PATIENCE)
        return process.returncode, err.decode()


@pytest.mark.parametrize("what", ["input", "exclude list", "key"])
@pytest.mark.parametrize("command", ["resume", "retry-failed", "verify", "export"])
def test_a_file_that_became_a_pipe_is_refused(
    witness: Witness, people: Path, tmp_path: Path, what: str, command: str
) -> None:
    held = tmp_path / "held.csv"
    held.write_text(ids(1)[0])
    witness.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--exclude", held, "--concurrency", 1) == 1
    asked = witness.stats.requests
    file = {"input": people, "exclude list": held, "key": get_key_path(ledger_of(people))}[what]
    file.unlink()
    os.mkfifo(file)
    options = ["--ids", "plain"] if command == "export" else []
    status, err = ends(witness, command, ledger_of(people), *options)
    assert witness.stats.requests == asked or what == "exclude list"
    if what == "exclude list" and command in ("verify", "export"):
        assert status == 0  # these don't need an exclude list
        return
    assert status == {"input": 2, "exclude list": 2, "key": 5}[what]
    says = {
        "input": "isn't a regular file any more",
        "exclude list": "can't be read again",
        "key": "isn't a regular file",
    }
    assert says[what] in err


def test_a_copy_of_standard_input_that_became_a_pipe_is_refused(witness: Witness, tmp_path: Path) -> None:
    witness.inject(Fault.REDIRECT, method="DELETE")
    settings = settings_for(witness)
    with started([*DELETE, "-"], settings, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        process.communicate("\n".join(ids(5)).encode(), timeout=PATIENCE)
        assert process.returncode == 1
    ledger = tmp_path / "stdin.adapty.db"
    Spool(ledger).path.unlink()
    os.mkfifo(Spool(ledger).path)
    status, err = ends(witness, "retry-failed", ledger)
    assert status == 2
    assert "isn't a regular file any more" in err
