"""The command `update` with Parquet, which has typed columns: a custom attribute has the type of its column."""

import importlib
import shlex
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from adapty_async.testing import Simulator
from tests.cli.commands.test_update import UPDATE, profile
from tests.cli.served import AT_ONCE
from tests.cli.witness import Say, ids, run

pyarrow: Any = importlib.import_module("pyarrow")
parquet: Any = importlib.import_module("pyarrow.parquet")

ONE, TWO, _ = ids(3)
UUID_TEXT = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"


def written(folder: Path, people: Sequence[str], **columns: Any) -> Path:
    path = folder / "people.parquet"
    named = {name.replace("__", "."): values for name, values in columns.items()}
    parquet.write_table(pyarrow.table({"customer_user_id": people, **named}), path)
    return path


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([7, None], pyarrow.int64(), 7.0),
        ([-(2**53), None], pyarrow.int64(), -(2.0**53)),
        ([2**63, None], pyarrow.uint64(), 2.0**63),
        ([0.1, None], pyarrow.float64(), 0.1),
        ([1e23, None], pyarrow.float64(), 1e23),
        ([1.5e-7, None], pyarrow.float64(), 1.5e-7),
        ([0.5, None], pyarrow.float32(), 0.5),
        ([Decimal("7.25"), None], pyarrow.decimal128(20, 2), 7.25),
        ([Decimal("0.0000001"), None], pyarrow.decimal128(20, 7), 1e-7),
        ([True, None], pyarrow.bool_(), 1.0),
        (["007", None], pyarrow.string(), "007"),
        (["true", None], pyarrow.large_string(), "true"),
        (["1e3", None], pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), "1e3"),
        ([date(2000, 12, 31), None], pyarrow.date32(), "2000-12-31"),
        ([UUID(UUID_TEXT).bytes, None], pyarrow.uuid(), UUID_TEXT),
    ],
    ids=str,
)
def test_a_custom_attribute_is_what_its_column_is(
    sim: Simulator, tmp_path: Path, values: list[Any], kind: Any, expected: object
) -> None:
    profile(sim, TWO).custom_attributes["a"] = "kept"
    assert (
        run(*UPDATE, written(tmp_path, [ONE, TWO], custom__a=pyarrow.array(values, kind), first_name=["A", "B"])) == 0
    )
    assert profile(sim, ONE).custom_attributes == {"a": expected}
    assert profile(sim, TWO).custom_attributes == {"a": "kept"}


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("custom.a", pyarrow.array([2**53 + 1]), "custom.a has more digits than Adapty stores for a number"),
        ("custom.a", pyarrow.array([float("nan")]), "custom.a must be a finite number"),
        ("custom.a", pyarrow.array([Decimal("9007199254740993.5")]), "custom.a has more digits than Adapty stores"),
        ("custom.a", pyarrow.array([0], pyarrow.timestamp("us")), "custom.a must be a text, a number"),
        ("custom.a", pyarrow.array([["x"]]), "custom.a must be a text, a number"),
        ("custom.a", pyarrow.array([b"x"]), "custom.a must be a text, a number"),
        ("first_name", pyarrow.array([b"Ann"]), "first_name must be a text, a number"),
        ("birthday", pyarrow.array([0], pyarrow.timestamp("us")), "birthday must be a text, a number"),
        ("custom.a", pyarrow.array([b"\xff"]).view(pyarrow.string()), "custom.a can't be read: it isn't UTF-8"),
        ("first_name", pyarrow.array([b"\xff"]).view(pyarrow.string()), "first_name can't be read: it isn't UTF-8"),
        ("custom.a:bool", pyarrow.array([1]), "custom.a:bool must be true or false"),
        ("custom.a:number", pyarrow.array([True]), "custom.a:number must be a number"),
        ("att_status", pyarrow.array([3.0]), "att_status must be 0, 1, 2 or 3"),
    ],
)
def test_what_adapty_has_no_type_for_is_never_sent_as_something_else(
    sim: Simulator, tmp_path: Path, say: Say, name: str, values: Any, reason: str
) -> None:
    both = pyarrow.concat_arrays([values, pyarrow.nulls(1, values.type)])
    path = written(tmp_path, [ONE, TWO], **{name: both}, last_name=["Bee", "Cee"])
    status, _, err = say(*UPDATE, path)
    assert status == 1
    assert f"row 1: {reason}" in err
    assert profile(sim, ONE).attributes == {}
    assert profile(sim, TWO).attributes == {"last_name": "Cee"}


def test_a_column_of_texts_is_read_as_its_name_says(sim: Simulator, tmp_path: Path) -> None:
    columns = {"custom.n:number": ["7"], "custom.b:bool": ["true"], "custom.i:number": [1e23], "att_status": [3]}
    assert run(*UPDATE, written(tmp_path, [ONE], **columns)) == 0
    assert profile(sim, ONE).custom_attributes == {"n": 7.0, "b": 1.0, "i": 1e23}
    assert profile(sim, ONE).attributes == {"att_status": 3}


@pytest.mark.parametrize("options", [(), ("--attributes", "custom.n,custom.b,custom.s")])
def test_failures_fed_back_keep_the_types(sim: Simulator, tmp_path: Path, say: Say, options: tuple[str, ...]) -> None:
    columns: dict[str, Any] = {"custom.n": [7, 7], "custom.b": [True, None], "custom.s": ["7", "NULL"]}
    path = written(tmp_path, ["nobody", "neither"], **columns)
    settings = ("--failures", "failures.csv", "--max-failures", "100%", "--null", "NULL", *options)
    status, _, err = say(*UPDATE, path, *settings)
    assert status == 1
    command = next(line for line in err.splitlines() if line.startswith("  adapty-async update "))
    sim.add_profile(customer_user_id="nobody")
    sim.add_profile(customer_user_id="neither").custom_attributes["s"] = "x"
    assert say(*shlex.split(command)[1:], *AT_ONCE, "--yes")[0] == 0
    assert profile(sim, "nobody").custom_attributes == {"n": 7.0, "b": 1.0, "s": "7"}
    assert profile(sim, "neither").custom_attributes == {"n": 7.0}


def test_in_failures_the_column_of_the_ids_keeps_its_name(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, ["x"], **{"custom.id": [7], "custom.d": [Decimal("0.0000001")]})
    options = ("--column", "custom.id", "--attributes", "custom.d", "--failures", tmp_path / "failures.csv")
    assert run(*UPDATE, path, *options) == 1
    header, row = (tmp_path / "failures.csv").read_text().splitlines()
    assert header.startswith("customer_user_id,custom.id,custom.d:number,")
    assert row.startswith("x,7,0.0000001,")


@pytest.mark.parametrize("name", ["custom.n", "custom.n:number"])
def test_a_float_with_an_exponent_can_be_fed_back(sim: Simulator, tmp_path: Path, say: Say, name: str) -> None:
    values = [1e22, 1e23, -1.5e-7, 5e-324, 1.7976931348623157e308, 2.0**-1017]
    people = [f"nobody-{number}" for number in range(len(values))]
    failures = tmp_path / "failures.csv"
    settings = ("--failures", failures, "--max-failures", "100%")
    assert run(*UPDATE, written(tmp_path, people, **{name: values}), *settings) == 1
    for id_ in people:
        sim.add_profile(customer_user_id=id_)
    assert run(*UPDATE, failures) == 0
    assert [profile(sim, id_).custom_attributes["n"] for id_ in people] == values
