"""Compare the requests that the server received with each view of the ledger."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from adapty_async.bulk import Outcome
from adapty_async.cli import main
from adapty_async.testing import prefilled_customer_user_id
from tests.cli.served import Patient

PEOPLE = 30
GONE = {Outcome.DELETED: 204, Outcome.ALREADY_ABSENT: 404, Outcome.DELETED_UNCONFIRMED: 404}
Say = Callable[..., tuple[int, str, str]]


class Witness(Patient):
    """A simulator that logs the results of the deletions of each ID."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.log: defaultdict[str, list[int]] = defaultdict(list)

    async def _handle_api_request(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await super()._handle_api_request(request)
        if request.method == "DELETE":
            who = request.headers.get("adapty-customer-user-id") or request.headers["adapty-profile-id"]
            self.log[who].append(response.status)
        return response


def agree(
    say: Say, ledger: Path, sim: Witness, status: int, *, failures: Path | None = None, moved: Path | None = None
) -> Counter[str]:
    """Compare status, report, export, the failed rows file, the exit status and the server's log with each other."""
    file = () if moved is None else ("--input", moved)
    exported = list(csv.DictReader(say("export", ledger, *file, "--ids", "plain")[1].splitlines()))
    counted = Counter(row["outcome"] for row in exported)
    assert say("report", ledger, "--format", "json", "-o", ledger.with_name("record.json"), "--force")[0] == 0
    record = json.loads(ledger.with_name("record.json").read_text())
    assert record["totals"] == dict(counted)
    assert record["items"] == len(exported)
    shown = dict(line.split()[:2] for line in say("status", ledger)[1].splitlines() if line.split()[:1] != [])
    assert all(shown[outcome] == f"{count:,}" for outcome, count in counted.items())
    failed = Counter({outcome: count for outcome, count in counted.items() if Outcome(outcome).is_failure})
    if status in (0, 1):
        assert bool(failed) == bool(status)
        assert not failed[Outcome.NOT_ATTEMPTED]
    if failures is not None:
        with failures.open(newline="") as written:
            assert Counter(row["adapty_outcome"] for row in csv.DictReader(written)) == failed
    for row in exported:
        agree_on(row["id"], Outcome(row["outcome"]), sim)
    return counted


def agree_on(id_: str, outcome: Outcome, sim: Witness) -> None:
    """Compare the ledger's information about an ID with the server's log."""
    if outcome in GONE:
        assert GONE[outcome] in sim.log[id_]
        assert id_ not in sim.profiles.customer_user_ids
    if outcome is Outcome.NOT_ATTEMPTED:
        assert 204 not in sim.log[id_]


def run(*arguments: object) -> int:
    """Run a command in this process. Return its exit status."""
    return main([*map(str, arguments)])


def ids(count: int) -> list[str]:
    """Return the IDs that a simulator starts with."""
    return [prefilled_customer_user_id(number) for number in range(1, count + 1)]


def ledger_of(people: Path) -> Path:
    """Return the path of the ledger that the command creates for an input."""
    return people.with_name(f"{people.name}.adapty.db")
