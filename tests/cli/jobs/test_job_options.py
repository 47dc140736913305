"""The options of a job are read from the ledger as they were stored."""

import json
import os
from pathlib import Path

import pytest

from adapty_async.cli.jobs.job_options import JobOptions
from adapty_async.cli.jobs.ledger_access import derive_ledger_path, format_command, format_resume_command
from adapty_async.cli.options import (
    Allowances,
    AttributeOptions,
    FormatName,
    GuardOptions,
    InputOptions,
    RecordOptions,
    SpeedOptions,
)

BARE = JobOptions(file=None, by="profile_id")
FULL = JobOptions(
    file=Path("/lists/people.csv"),
    by="customer_user_id",
    input_options=InputOptions(column="member", format=FormatName.JSONL),
    attribute_options=AttributeOptions(attributes="email", set=["custom.team=red"], null="NULL"),
    speed_options=SpeedOptions(pace="50", max_rate="80", concurrency=7),
    guard_options=GuardOptions(expect=3, max_profiles=4, max_failures="2%", no_canary=True, max_absent="80%"),
    app="an app",
    exclude={"held.csv": Path("/lists/held.csv"), "/more/held.csv": Path("/more/held.csv")},
    exclude_column="held",
    allowances=Allowances(damaged=True, rounded=True),
    record_options=RecordOptions(operator="Ann", request="DSR-7"),
    failures=Path("/lists/failures.csv"),
)


@pytest.mark.parametrize("order", [BARE, FULL], ids=["bare", "full"])
def test_an_order_is_kept_as_json(order: JobOptions) -> None:
    ledger = Path("/lists/people.csv.adapty.db")
    assert JobOptions.from_dict(json.loads(json.dumps(order.to_dict(ledger))), ledger) == order


def test_exclude_lists_of_one_name_are_told_apart() -> None:
    files = [Path("/lists/held.csv"), Path("/more/held.csv"), Path("/lists/held.csv")]
    assert BARE.with_exclude_lists(files).exclude == FULL.exclude


def test_a_ledger_lies_beside_its_input_or_where_that_is_not_a_file_in_the_working_directory(tmp_path: Path) -> None:
    assert derive_ledger_path(tmp_path / "people.csv") == tmp_path / "people.csv.adapty.db"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert derive_ledger_path(Path("-")) == derive_ledger_path(pipe) == Path("stdin.adapty.db")


def test_a_command_can_be_copied_into_a_shell() -> None:
    assert format_resume_command(Path("the people's.db")) == """adapty-async resume 'the people'"'"'s.db'"""
    assert format_resume_command(Path("-people.db")) == "adapty-async resume ./-people.db"
    assert format_command("delete", Path("-"), "--by", "profile_id") == "adapty-async delete - --by profile_id"
