"""The figures of every output add up to the number of rows, even if many things go wrong."""

import json
import re
from pathlib import Path

import pytest

from adapty_async.testing import Fault
from tests.cli.served import AT_ONCE, acting_after
from tests.cli.witness import Say, Witness, ids, ledger_of

PARTS = ("done", "failed", "in_doubt", "excluded", "left")
ROWS = 30
DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id", "--yes", "--concurrency", "2", "--max-failures", "100%")


@pytest.fixture
def listed(witness: Witness, people: Path) -> Path:
    """Add an invalid row, a duplicate and three absent profiles to the existing ones."""
    people.write_text(
        people.read_text() + f"n,{ids(5)[-1]}\nn,\n" + "".join(f"n,nobody-{number}\n" for number in range(3))
    )
    (people.parent / "held.csv").write_text("\n".join(ids(2)))
    return people


TOTAL = ROWS + 5


def figures_of(lines: str) -> dict[str, int]:
    """Return the lines of a summary up to the total."""
    figures = re.findall(r"^(\w+) +([\d,]+)", lines.partition("\ntotal")[0], re.MULTILINE)
    return {name: int(figure.replace(",", "")) for name, figure in figures}


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("is_stopped", [False, True], ids=["to the end", "stopped"])
def test_the_figures_add_up(
    witness: Witness, listed: Path, say: Say, options: tuple[str, ...], *, is_stopped: bool
) -> None:
    witness.inject(Fault.REDIRECT, Fault.REDIRECT, Fault.NONE, Fault.RESET_AFTER, method="DELETE")

    def revoke() -> None:
        witness.api_key = "another" if is_stopped else witness.api_key

    command = (*DELETE, listed, "--exclude", "held.csv", "--json", *options)
    with acting_after(witness, 10, revoke):
        status, out, _ = say(*command)
    assert status == (4 if is_stopped else 1)
    told = [json.loads(line) for line in out.splitlines()]
    progress = [event for event in told if event["event"] == "progress"]
    for event in progress:
        assert sum(event[part] for part in PARTS) == event["total"] == TOTAL
    last, end = progress[-1], told[-1]
    assert last["excluded"] == 2
    assert last["failed"] >= 2 if is_stopped else last["failed"] == 3  # when stopped, another request may be abandoned
    assert (last["left"] > 0) == is_stopped
    assert last["done"] == sum(last["counts"].get(name, 0) for name in GOOD)
    assert sum(end["counts"].values()) == end["total"] == TOTAL
    if options:
        return

    # What the ledger shows afterwards.
    found = json.loads(say("status", ledger_of(listed), "--json")[1])
    assert sum(found["totals"].values()) == found["total"] == TOTAL
    assert found["totals"] == end["counts"]
    assert sum(figures_of(say("status", ledger_of(listed))[1].partition("\n\n")[2]).values()) == TOTAL
    record = json.loads(say("report", ledger_of(listed), "--format", "json")[1])
    assert sum(record["totals"].values()) == record["items"] == TOTAL
    assert (record["open"] > 0) == is_stopped


GOOD = ("deleted", "deleted_unconfirmed", "already_absent", "duplicate")


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
def test_what_failed_is_not_told_to_be_done(witness: Witness, people: Path, say: Say, options: tuple[str, ...]) -> None:
    witness.faults.fault_rates = {Fault.REDIRECT: 0.3}
    _, out, err = say(*DELETE, people, *options)
    failed = figures_of(out)["failed"]
    assert failed > 0
    assert sum(figures_of(out).values()) == ROWS
    assert f"{ROWS - failed} of {ROWS} rows" in err
    assert f"{ROWS} of {ROWS} rows" not in err
