"""Inputs of each format, from the command to the failed rows file. The format is shown and stored."""

import csv
import gzip
import importlib
import json
import os
import re
import shlex
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async.bulk import Outcome
from adapty_async.cli.inputs.compression import iter_blocks
from adapty_async.cli.inputs.format_detection import infer_format
from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.inputs.input_types import Format, InputError
from adapty_async.cli.inputs.value_to_text import format_field
from adapty_async.cli.jobs.failed_rows_file import FailedRow, write_failed_rows
from adapty_async.install_command import format_install_command
from adapty_async.ledger import LedgerReader
from tests.cli.served import AT_ONCE
from tests.cli.witness import Say, Witness, ids

pyarrow: Any = importlib.import_module("pyarrow")
parquet: Any = importlib.import_module("pyarrow.parquet")

BY = ("--by", "customer_user_id")
DELETE = ("delete", *AT_ONCE, *BY, "--yes")


def write(folder: Path, name: str, people: list[str]) -> Path:
    """Write the IDs in the format that a name stands for."""
    path = folder / name
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table({"n": [1] * len(people), "customer_user_id": people}), path)
    else:
        text = {
            ".csv": "customer_user_id,n\n" + "".join(f"{id_},1\n" for id_ in people),
            ".tsv": "customer_user_id\tn\n" + "".join(f"{id_}\t1\n" for id_ in people),
            ".ids": "".join(f"{id_}\n" for id_ in people),
            ".jsonl": "".join(json.dumps({"n": 1, "customer_user_id": id_}) + "\n" for id_ in people),
        }[path.suffixes[0]]
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


NAMES = ["people.csv", "people.tsv", "people.ids", "people.jsonl", "people.parquet", "people.csv.gz", "people.jsonl.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_deleted_gone_on_with_and_exported(
    witness: Witness, tmp_path: Path, say: Say, name: str
) -> None:
    people = [*ids(10), " no id", ids(1)[0]]
    path = write(tmp_path, name, people)
    status, out, err = say(*DELETE, path)
    assert status == 1
    assert "12 rows, 10 profiles to delete" in err
    assert witness.stats.requests == 10
    ledger = tmp_path / f"{name}.adapty.db"
    failures = tmp_path / "failures.csv"
    status, _, err = say("retry-failed", ledger, "--failures", failures)
    assert status == 1
    assert witness.stats.requests == 10
    with failures.open(newline="") as file:
        (failed,) = csv.DictReader(file)
    assert failed["customer_user_id"] == " no id"
    assert failed["adapty_outcome"] == "invalid"
    _, out, _ = say("export", ledger, "--ids", "plain")
    assert [row.split(",")[1] for row in out.splitlines()[1:]] == people


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("present", ["present.csv", "present.jsonl"])
def test_whoever_is_present_is_written_as_csv_and_deleted_by_the_command_that_is_printed(
    witness: Witness, tmp_path: Path, say: Say, name: str, present: str
) -> None:
    path = write(tmp_path, name, ids(5))
    assert say(*DELETE, path)[0] == 0
    witness.add_profile(customer_user_id=ids(2)[1])
    status, _, err = say("verify", f"{path}.adapty.db", *AT_ONCE, "--present", present)
    assert status == 1
    with Path(present).open(newline="") as file:
        assert [row["customer_user_id"] for row in csv.DictReader(file)] == [ids(2)[1]]
    (typed,) = re.findall(r"^  adapty-async (delete .*)$", err, re.MULTILINE)
    assert say(*shlex.split(typed), "--yes", *AT_ONCE)[0] == 0
    assert ids(2)[1] not in witness.profiles.customer_user_ids


@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_was_changed_is_refused_with_its_line(
    witness: Witness, tmp_path: Path, say: Say, name: str
) -> None:
    path = write(tmp_path, name, [*ids(3), " no id"])
    assert say(*DELETE, path)[0] == 1
    write(tmp_path, name, [*ids(2), "somebody else", " no id"])
    status, _, err = say("resume", f"{path}.adapty.db")
    assert status == 5
    unit = "row" if path.suffix == ".parquet" else "line"
    assert f"first differs at {unit} {4 if has_header(name) else 3}" in err


def test_what_a_format_is_stays_known_where_the_file_has_another_name(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    path = write(tmp_path, "people.jsonl", [*ids(3), " no id"])
    assert say(*DELETE, path)[0] == 1
    moved = path.rename(tmp_path / "moved.csv")
    assert say("retry-failed", f"{path}.adapty.db", "--input", moved)[0] == 1


def test_standard_input_is_read_as_it_is_said_to_be(
    witness: Witness, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "people.jsonl", [*ids(3), " no id"])
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert say(*DELETE, "-")[0] == 2
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert say(*DELETE, "-", "--format", "jsonl")[0] == 1
    assert witness.stats.requests == 3
    with LedgerReader(Path("stdin.adapty.db")) as reader:
        assert reader.job_options["input_options"]["format"] == "jsonl"


def test_a_pipe_with_a_name_is_read_as_that_tells(witness: Witness, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "people.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(json.dumps(ids(1)[0]),))
    writer.start()
    assert say(*DELETE, path)[0] == 0
    writer.join()
    assert witness.stats.requests == 1


def test_the_plan_says_what_is_read_and_how_it_is_deleted(tmp_path: Path, say: Say) -> None:
    path = write(tmp_path, "people.jsonl.gz", ["u1"]).rename(tmp_path / "people")
    status, out, err = say("plan", path, *BY, "--format", "jsonl")
    assert status == 0
    assert "JSON lines, compressed by gzip" in out
    assert "read as JSON lines, compressed by gzip: customer_user_id of each object" in err
    assert f"adapty-async delete {path} --by customer_user_id --format jsonl\n" in out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("people.csv", Format.CSV),
        ("PEOPLE.CSV.GZ", Format.CSV),
        ("people.2026.tab", Format.TSV),
        ("people.ndjson", Format.JSONL),
        ("people.json.gz", Format.JSONL),
        ("people.ids", Format.IDS),
        ("people.pq", Format.PARQUET),
        ("people.txt", None),
        ("people.gz", None),
        ("people", None),
        ("-", None),
    ],
)
def test_a_name_tells_the_format_or_nothing(name: str, expected: Format | None) -> None:
    assert infer_format(Path(name)) is expected


def failures_of(path: Path) -> list[list[str]]:
    """Write a failed rows file in which each row of an input failed, and read it."""
    failures = path.with_name("failures.csv")
    with open_id_input(path, by="customer_user_id") as opened:
        written = (FailedRow(row, Outcome.FAILED, "why", None) for row in opened.iter_raw_rows())
        write_failed_rows(failures, opened.read_schema(), written)
    with open_id_input(failures, by="customer_user_id") as opened:
        list(opened.iter_raw_ids())
    with failures.open(newline="") as file:
        return list(csv.reader(file))


def test_the_failures_of_json_lines_have_the_keys_of_the_first_object_as_columns(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text(
        '"u0"\n{"n": {"a": [1, null]}, "customer_user_id": 7, "x": null}\n{"customer_user_id": "u2", "x": "é"}\nno\n'
        '{"n": true}\n{"x": "\\ud800", "customer_user_id": "u6"}\n'
    )
    header, *rows = failures_of(path)
    assert header[:3] == ["n", "customer_user_id", "x"]
    assert [row[:3] for row in rows] == [
        ["", "u0", ""],
        ['{"a": [1, null]}', "7", ""],
        ["", "u2", "é"],
        ["", "", ""],
        ["true", "", ""],
        ["", "u6", "\\ud800"],
    ]


def test_what_is_nested_too_deep_to_be_written_is_left_out() -> None:
    nested: list[Any] = []
    for _ in range(100_000):  # Python 3.13 can write thousands of levels
        nested = [nested]
    assert format_field(nested) == ""


def test_the_failures_of_parquet_have_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    times = pyarrow.array([1, None], pyarrow.timestamp("ns"))
    columns = {"n": [1.5, None], "customer_user_id": ["u1", "u2"], "l": [["a"], []], "t": times}
    parquet.write_table(pyarrow.table(columns), path)
    header, *rows = failures_of(path)
    assert header[:4] == ["n", "customer_user_id", "l", "t"]
    assert [row[:3] for row in rows] == [["1.5", "u1", '["a"]'], ["", "u2", "[]"]]


def test_a_file_that_cannot_be_read_any_further_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "people.csv").open("wb") as only_written, pytest.raises(InputError, match="completely"):
        list(iter_blocks(only_written, "people.csv"))


def test_without_pyarrow_parquet_is_refused_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "people.parquet", ["u1"])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with (
        open_id_input(path, by="customer_user_id") as opened,
        pytest.raises(InputError, match=rf"pyarrow is needed: {re.escape(format_install_command('parquet'))}"),
    ):
        opened.check()


TOKENS = ['"a"', '"id"', '"b', '{"id":"c"}', '{"id"', "{", "}", "[", "]", ",", ":", "1", " ", "\r", "é", r"\u0069", "x"]


@settings(deadline=None)  # a disk may be slow
@given(
    name=st.sampled_from(["people.jsonl", "people.csv", "people.tsv", "people.ids"]),
    lines=st.lists(st.lists(st.sampled_from(TOKENS), max_size=5).map("".join), max_size=5),
)
def test_many_rows_at_once_are_read_as_each_is_alone(
    tmp_path_factory: pytest.TempPathFactory, name: str, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    text = "".join(f"{line}\n" for line in lines)
    found: list[Any] = []
    for before in ("", "\n"):  # a batch with a blank line is read row by row
        path.write_text(before + text, newline="")
        try:
            with open_id_input(path, by="customer_user_id", column="id" if "json" in name else None) as opened:
                rows = [(row.line - len(before), row.id, row.outcome, row.fields) for row in opened.iter_rows()]
        except InputError as error:
            found.append(re.sub(r"\d+", "", str(error)))
        else:
            found.append(rows)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", NAMES)
def test_readings_of_one_file_at_the_same_time_do_not_disturb_each_other(tmp_path: Path, name: str) -> None:
    people = [f"user-{number}" for number in range(3000)]
    with open_id_input(write(tmp_path, name, people), by="customer_user_id") as opened:
        assert list(zip(opened.iter_raw_ids(), opened.iter_raw_ids(), strict=True)) == list(
            zip(people, people, strict=True)
        )
        assert opened.find_line(2999) == (3001 if has_header(name) else 3000)


def has_header(name: str) -> bool:
    return "csv" in name or "tsv" in name
