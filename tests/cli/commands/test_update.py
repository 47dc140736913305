"""The command `update`: the attributes that the server receives for cells, options and JSON objects."""

import csv
import gzip
import io
import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from adapty_async.cli import main
from adapty_async.cli.inputs.input_types import ADDED_COLUMNS
from adapty_async.testing import Fault, Simulator
from tests.cli.commands.test_delete import Keyboard
from tests.cli.served import AT_ONCE, Patient, interrupting_after, settings_for, started, wait_until
from tests.cli.witness import Say, ids, ledger_of, run

UPDATE = ("update", *AT_ONCE, "--by", "customer_user_id", "--yes")
ONE, TWO, THREE = ids(3)


def written(folder: Path, content: str, name: str = "people.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def profile(sim: Simulator, id_: str) -> Any:
    found = sim.profiles.find(customer_user_id=id_)
    assert found is not None
    return found


def test_each_cell_becomes_the_attribute_that_its_column_names(sim: Simulator, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "customer_user_id,first_name,att_status,analytics_disabled,custom.team,custom.age:number,custom.vip:bool\n"
        f"{ONE},Ann,3,TRUE,007,7.5,true\n",
    )
    assert run(*UPDATE, path) == 0
    assert profile(sim, ONE).attributes == {"first_name": "Ann", "att_status": 3, "analytics_disabled": True}
    assert profile(sim, ONE).custom_attributes == {"team": "007", "age": 7.5, "vip": 1.0}
    assert sim.stats.responses == {("PATCH", 200): 1}


@pytest.mark.parametrize(
    "number", ["-9007199254740992", "1180591620717411303424", "7.25", "-0", "0.1", "0.10000000000000001"]
)
def test_a_number_is_sent_to_its_last_digit(sim: Simulator, tmp_path: Path, number: str) -> None:
    assert run(*UPDATE, written(tmp_path, f"customer_user_id,custom.n:number\n{ONE},{number}\n")) == 0
    row = f'{{"customer_user_id": "{TWO}", "custom.n": {number}}}'
    assert run(*UPDATE, written(tmp_path, row, "people.jsonl")) == 0
    assert {profile(sim, id_).custom_attributes["n"] for id_ in (ONE, TWO)} == {float(number)}


def test_unset_null_and_empty_are_told_apart(sim: Simulator, tmp_path: Path) -> None:
    profile(sim, ONE).custom_attributes = {"team": "blue", "note": "x"}
    path = written(tmp_path, f"customer_user_id,email,first_name,custom.team,custom.note\n{ONE},NULL,,,EMPTY\n")
    assert run(*UPDATE, path, "--null", "NULL", "--empty", "EMPTY") == 0
    assert profile(sim, ONE).attributes == {"email": None}
    assert profile(sim, ONE).custom_attributes == {"team": "blue"}


def test_empty_cells_clear_where_null_says_so(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, f"customer_user_id,email\n{ONE},\n")
    assert run(*UPDATE, path, "--null", "") == 0
    assert profile(sim, ONE).attributes == {"email": None}


@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)])
def test_it_says_beforehand_how_much_is_cleared_and_emptied(
    sim: Simulator, tmp_path: Path, say: Say, ledger: tuple[str, ...]
) -> None:
    rows = f"{ONE},NULL,NULL\n{TWO},,EMPTY\n{ONE},NULL,NULL\n{THREE},NULL,{'x' * 51}\n"
    path = written(tmp_path, f"customer_user_id,email,custom.a\n{rows}")
    options = ("--null", "NULL", "--empty", "EMPTY", "--set", "store_country=NULL")
    assert "attributes: 4 are cleared (null), 1 set to an empty text" in say(*UPDATE, path, *options, *ledger)[2]
    row = json.dumps({"customer_user_id": ONE, "email": None, "custom_attributes": {"a": "", "b": None}})
    err = say(*UPDATE, written(tmp_path, row, "people.jsonl"), *ledger)[2]
    assert "attributes: 2 are cleared (null), 1 set to an empty text" in err


def test_where_nothing_is_cleared_nothing_is_said_of_it(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = written(tmp_path, f"customer_user_id,email,custom.a\n{ONE},,b\n")
    assert "attributes:" not in say(*UPDATE, path, "--null", "NULL")[2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--null", "NULL"), "--null has no effect: write null into the objects themselves, and leave --null out"),
        (("--empty", "-"), '--empty has no effect: write "" into the objects themselves'),
        (("--null", "NULL", "--set", "email=x@y.example"), "--null has no effect"),
    ],
)
def test_what_says_something_in_cells_alone_is_refused_for_json_lines(
    sim: Simulator, tmp_path: Path, say: Say, options: tuple[str, ...], sentence: str
) -> None:
    path = written(tmp_path, f'{{"customer_user_id": "{ONE}", "first_name": "Ann"}}\n', "people.jsonl")
    status, _, err = say(*UPDATE, path, *options)
    assert (status, sim.stats.requests) == (2, 0)
    assert sentence in err


def test_what_is_set_may_be_null_beside_json_lines_too(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, f'{{"customer_user_id": "{ONE}", "first_name": "Ann"}}\n', "people.jsonl")
    assert run(*UPDATE, path, "--set", "email=NULL", "--null", "NULL") == 0
    assert profile(sim, ONE).attributes == {"first_name": "Ann", "email": None}


def test_what_is_set_is_the_same_in_all_rows(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, f"{ONE}\n{TWO}\n")
    options = ("--set", "custom.campaign=a=b", "--set", "att_status=0", "--set", "email=-", "--null", "-")
    assert run(*UPDATE, path, *options) == 0
    for id_ in (ONE, TWO):
        assert profile(sim, id_).attributes == {"att_status": 0, "email": None}
        assert profile(sim, id_).custom_attributes == {"campaign": "a=b"}


def test_only_the_named_columns_are_attributes(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, f"customer_user_id,remark,email,first_name\n{ONE},x,a@b.example,Ann\n")
    assert run(*UPDATE, path, "--attributes", "first_name") == 0
    assert profile(sim, ONE).attributes == {"first_name": "Ann"}


def test_no_column_is_one_where_it_is_said(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, f"customer_user_id,remark\n{ONE},x\n")
    assert run(*UPDATE, path, "--attributes", "none", "--set", "first_name=Ann") == 0
    assert profile(sim, ONE).attributes == {"first_name": "Ann"}


def test_json_lines_say_what_cells_cannot(sim: Simulator, tmp_path: Path) -> None:
    profile(sim, ONE).custom_attributes = {"old": "x", "team": "blue"}
    meta = {"device_id": "3286abd3-48b0-4e9c-a5f6-ac0a006333a6", "os": ""}
    rows = [
        {
            "customer_user_id": ONE,
            "email": None,
            "custom_attributes": {"age": 7, "old": None},
            "installation_meta": meta,
        },
        {"customer_user_id": TWO, "custom_attributes": [{"key": "team", "value": "red"}], "custom.vip": True},
    ]
    path = written(tmp_path, "".join(f"{json.dumps(row)}\n\n" for row in rows), "people.jsonl")
    assert run(*UPDATE, path) == 0
    assert profile(sim, ONE).attributes == {"email": None, "installation_meta": meta}
    assert profile(sim, ONE).custom_attributes == {"team": "blue", "age": 7.0}
    assert profile(sim, TWO).custom_attributes == {"team": "red", "vip": 1.0}


@pytest.mark.parametrize(
    ("names", "custom"),
    [
        ("custom.team", {"team": "blue"}),
        ("custom_attributes,first_name", {"team": "blue", "age": 7.0}),
        ("first_name", {}),
    ],
)
def test_of_an_object_only_the_named_fields_are_attributes(
    sim: Simulator, tmp_path: Path, names: str, custom: dict[str, object]
) -> None:
    own = {"first_name": "Ann", "remark": "x", "custom_attributes": {"team": "blue", "age": 7}}
    path = written(tmp_path, json.dumps({"customer_user_id": ONE, **own}), "people.jsonl")
    assert run(*UPDATE, path, "--attributes", names) == 0
    assert profile(sim, ONE).attributes == ({"first_name": "Ann"} if "first_name" in names else {})
    assert profile(sim, ONE).custom_attributes == custom


def test_other_tables_than_csv_are_read_likewise(sim: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "people.tsv.gz"
    path.write_bytes(gzip.compress(f"customer_user_id\tfirst_name\n{ONE}\tAnn, Bea\n".encode()))
    assert run(*UPDATE, path) == 0
    assert profile(sim, ONE).attributes == {"first_name": "Ann, Bea"}


@pytest.mark.parametrize(
    ("header", "cell", "reason"),
    [
        ("email", "nobody", "email must be of the form name@domain"),
        ("gender", "female", "gender must be f, m or o"),
        ("att_status", "4", "att_status must be 0, 1, 2 or 3"),
        ("att_status", "3.0", "att_status must be 0, 1, 2 or 3"),
        ("analytics_disabled", "yes", "analytics_disabled must be true or false"),
        ("birthday", "31.12.2000", "birthday must be a date as in 2000-12-31"),
        ("ip_v4_address", "::1", "ip_v4_address must be an address as in 192.0.2.1"),
        ("store_account_token", "17", "store_account_token must be a UUID"),
        ("custom.age:number", "7,5", "custom.age:number must be a number"),
        ("custom.age:number", "nan", "custom.age:number must be a number"),
        ("custom.age:number", "007", "custom.age:number must be a number"),
        ("custom.age:number", "1e3", "custom.age:number must be a number"),
        ("custom.age:number", "9" * 400, "custom.age:number must be a number"),
        ("custom.age:number", "9007199254740993", "custom.age:number has more digits than Adapty stores"),
        ("custom.age:number", "9007199254740993.5", "custom.age:number has more digits than Adapty stores"),
        ("custom.age:number", "-9007199254740993.0", "custom.age:number has more digits than Adapty stores"),
        ("custom.team", "x" * 51, "custom.team must be a text of at most 50 characters"),
        ("installation_meta.os", "17", "installation_meta needs installation_meta.device_id"),
        ("installation_meta.device_id", "17", "installation_meta.device_id must be a UUID of 36 characters"),
        ("installation_meta.platform", "Windows", "installation_meta.platform must be one of iOS, macOS"),
        ("email", "", "the row sets no attribute"),
    ],
)
def test_a_value_that_adapty_would_refuse_is_never_sent(
    sim: Simulator, tmp_path: Path, say: Say, header: str, cell: str, reason: str
) -> None:
    path = tmp_path / "people.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["customer_user_id", header, "first_name"], [ONE, cell, ""], [TWO, "", "Bea"]])
    status, _, err = say(*UPDATE, path)
    assert status == 1
    assert f"line 2: {reason}" in err
    assert not cell or f"{cell}\n" not in err
    assert sim.stats.requests == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("[1]", "the row isn't a JSON object"),
        ('{"customer_user_id": "u", ', "the row isn't JSON"),
        ('{"customer_user_id": "u", "email": NaN}', "the row isn't JSON"),
        ('{"customer_user_id": "u", "email": null, "email": "a@b"}', "a field occurs twice in the row"),
        ('{"customer_user_id": 1.5, "email": null}', "the ID is a floating-point number"),
        ('{"email": null}', "the row has no customer_user_id"),
        ('{"customer_user_id": "u", "att_status": true}', "att_status must be 0, 1, 2 or 3"),
        ('{"customer_user_id": "u", "att_status": "3"}', "att_status must be 0, 1, 2 or 3"),
        ('{"customer_user_id": "u", "first_name": ""}', "first_name must be a text that isn't empty; null clears it"),
        ('{"customer_user_id": "u", "first_name": 7}', "first_name must be a text that isn't empty; null clears it"),
        ('{"customer_user_id": "u", "custom.a": 1e999}', "custom.a must be a finite number"),
        ('{"customer_user_id": "u", "custom.a": 9007199254740993}', "custom.a has more digits than Adapty stores"),
        ('{"customer_user_id": "u", "custom.a": 9007199254740993.0}', "custom.a has more digits than Adapty stores"),
        ('{"customer_user_id": "u", "custom.a": 900719925474099.3e1}', "custom.a has more digits than Adapty stores"),
        ('{"customer_user_id": "u", "custom.a": 1e-400}', "custom.a has more digits than Adapty stores"),
        (
            '{"customer_user_id": "u", "custom.a": 1e-99999999999999999999}',
            "custom.a has more digits than Adapty stores",
        ),
        (
            '{"customer_user_id": "u", "custom_attributes": [{"key": "a", "value": 0.12345678901234567890}]}',
            "custom.a has more digits than Adapty stores",
        ),
        ('{"customer_user_id": -0, "email": null}', "the ID is a floating-point number"),
        ('"u"', "the line is only an ID: write it as an object with the attributes to set"),
        ('{"customer_user_id": "u", "custom_attributes": "x"}', "custom_attributes must be an object"),
        (
            '{"customer_user_id": "u", "custom.a": 1, "custom_attributes": {"a": 2}}',
            "an attribute is in the row twice",
        ),
        (
            '{"customer_user_id": "u", "custom_attributes": {"a": [1]}}',
            "custom.a must be a text, a number, true, false or null",
        ),
        ("[" * 5000, "the row isn't JSON"),
    ],
)
def test_an_odd_object_is_invalid_and_the_rest_is_sent(
    sim: Simulator, tmp_path: Path, say: Say, row: str, reason: str
) -> None:
    path = written(tmp_path, f'{{"customer_user_id": "{ONE}", "first_name": "Ann"}}\n{row}\n', "people.jsonl")
    status, _, err = say(*UPDATE, path)
    assert status == 1
    assert f"line 2: {reason}" in err
    assert sim.stats.requests == 1


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ("customer_user_id,remark\nu,x\n", (), "'remark'"),
        ("customer_user_id,custom.a b\nu,x\n", (), "'custom.a b'"),
        ("customer_user_id,email,email\nu,x,y\n", (), "several columns for email"),
        ("customer_user_id,custom.a,custom.a:bool\nu,x,y\n", (), "several columns for custom.a:bool"),
        ("customer_user_id,email\nu,x\n", ("--attributes", "phone_number"), "no column phone_number"),
        ("customer_user_id,email\nu,x\n", ("--attributes", "remark"), "'remark' isn't an attribute"),
        ("customer_user_id,email\nu,x\n", ("--set", "email=a@b.example"), "leave one of them out"),
        ("customer_user_id\nu\n", (), "no column with an attribute"),
        ("u\n", ("--set", "remark=x"), "KEY is an attribute"),
        ("u\n", ("--set", "email"), "--set wants KEY=VALUE"),
        ("u\n", ("--set", "email=x"), "--set: email must be"),
        ("u\n", ("--set", "att_status=1", "--set", "att_status=2"), "names an attribute twice"),
        ("u\n", ("--set", "email=x", "--null", "x", "--empty", "x"), "contradict"),
        ('{"customer_user_id": "u", "remark": "x"}\n', (), "line 1 has a field that isn't an attribute"),
        (
            '{"customer_user_id": "u", "custom_attributes": {"a b": 1}}\n',
            (),
            "line 1 has a field that isn't an attribute",
        ),
        (
            "customer_user_id,email\nu,a@b.example\nv,a@b.example\nu,c@d.example\n",
            (),
            "line 4: the ID is also on line 2",
        ),
    ],
)
def test_what_is_not_clear_refuses_the_input(
    sim: Simulator, tmp_path: Path, say: Say, content: str, options: tuple[str, ...], sentence: str
) -> None:
    path = written(tmp_path, content, "people.jsonl" if content.startswith("{") else "people.csv")
    status, _, err = say(*UPDATE, path, *options)
    assert (status, sim.stats.requests) == (2, 0)
    assert sentence in err
    assert "example" not in err
    assert not ledger_of(path).exists()


def test_an_id_with_the_same_values_again_is_a_duplicate(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = written(tmp_path, f"customer_user_id,first_name\n{ONE},Ann\n{TWO},Ann\n{ONE},Ann\n")
    status, out, err = say(*UPDATE, path)
    assert status == 0
    assert "duplicate" in out
    assert "3 rows, 2 profiles to update" in err
    assert sim.stats.requests == 2


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ("{one},Ann,\n{one},Bea,nobody\n", (3, 2)),
        ("{one},Bea,nobody\n{two},Bea,\n{one},Ann,\n", (4, 2)),
        ("{one},Bea,nobody\n{one},Ann,\n{one},Bea,nobody\n", (3, 2)),
        ("{one},Ann,\n{one},,\n", (3, 2)),
    ],
)
def test_an_id_that_comes_again_with_values_that_cannot_be_sent_refuses_the_input(
    sim: Simulator, tmp_path: Path, say: Say, rows: str, lines: tuple[int, int]
) -> None:
    path = written(tmp_path, f"customer_user_id,first_name,email\n{rows.format(one=ONE, two=TWO)}")
    status, _, err = say(*UPDATE, path)
    assert (status, sim.stats.requests) == (2, 0)
    assert f"line {lines[0]}: the ID is also on line {lines[1]}, with other values" in err
    assert not ledger_of(path).exists()


def test_an_object_in_which_a_field_stands_twice_still_says_whose_it_is(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    twice = f'{{"customer_user_id": "{ONE}", "email": "a@b.example", "email": "c@d.example"}}\n'
    once = f'{{"customer_user_id": "{ONE}", "email": "a@b.example"}}\n'
    status, _, err = say(*UPDATE, written(tmp_path, twice + once, "people.jsonl"))
    assert (status, sim.stats.requests) == (2, 0)
    assert "line 2: the ID is also on line 1, with other values" in err
    unclear = [
        f'{{"customer_user_id": "{ONE}", "customer_user_id": "{TWO}", "email": null}}',
        '[{"a": 1, "a": 2}]',
        f"{twice.strip()} and more",
        f'{{"customer_user_id": ["{ONE}"], "email": null, "email": null}}',
    ]
    status, _, err = say(*UPDATE, written(tmp_path, "\n".join([*unclear, once]), "people.jsonl"))
    assert status == 1, err
    assert sim.stats.requests == 1


def test_an_id_that_can_be_sent_on_none_of_its_lines_refuses_nothing(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = written(tmp_path, f"customer_user_id,email\n{ONE},x\n{ONE},y\n{ONE},x\n{TWO},b@c.example\n u,x\n u,z\n")
    status, out, err = say(*UPDATE, path)
    assert (status, sim.stats.requests) == (1, 1)
    assert "6 rows, 1 profile to update" in err
    assert "duplicate" not in out
    assert say("export", ledger_of(path), "--ids", "none")[1].count(",invalid,") == 5


def test_whoever_is_excluded_may_stand_there_twice(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, f"customer_user_id,email\n{ONE},a@b.example\n{ONE},c@d.example\n{TWO},e@f.example\n")
    assert run(*UPDATE, path, "--exclude", written(tmp_path, f"{ONE}\n", "held.csv")) == 0
    assert sim.stats.requests == 1


SAME = [
    ('{"custom_attributes": {"a": 7, "b": true}}', '{"custom_attributes": {"b": 1.0, "a": 7.0}}'),
    ('{"custom.a": 7, "email": null}', '{"email": null, "custom_attributes": [{"key": "a", "value": 7e0}]}'),
    ('{"custom.a": 0}', '{"custom.a": -0.0}'),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_values_are_compared_as_what_they_are_not_as_they_are_written(
    sim: Simulator, tmp_path: Path, say: Say, first: str, second: str
) -> None:
    path = written(tmp_path, "", "people.jsonl")
    path.write_text("".join(f'{{"customer_user_id": "{ONE}", {row[1:]}\n' for row in (first, second)))
    status, out, err = say(*UPDATE, path)
    assert status == 0, err
    assert "duplicate" in out
    assert sim.stats.requests == 1


@pytest.mark.parametrize(("first", "second"), SAME)
def test_a_ledger_takes_values_for_the_same_however_they_are_written(
    sim: Simulator, tmp_path: Path, say: Say, first: str, second: str
) -> None:
    path = written(tmp_path, f'{{"customer_user_id": "{ONE}", {first[1:]}\n', "people.jsonl")
    assert run(*UPDATE, path) == 0
    path.write_text(f'{{"customer_user_id": "{ONE}", {second[1:]}\n')
    status, _, err = say("resume", ledger_of(path))
    assert status == 0, err


@pytest.mark.parametrize("second", ['{"custom.a": "7"}', '{"custom.a": 7.5}', '{"custom.a": null}', '{"custom.b": 7}'])
def test_values_that_differ_are_other_values(sim: Simulator, tmp_path: Path, say: Say, second: str) -> None:
    rows = (f'{{"customer_user_id": "{ONE}", {row[1:]}\n' for row in ('{"custom.a": 7}', second))
    assert say(*UPDATE, written(tmp_path, "".join(rows), "people.jsonl"))[0] == 2


def test_the_failures_can_be_fed_back_as_they_are(sim: Simulator, tmp_path: Path) -> None:
    content = f"customer_user_id,first_name\n{ONE},Ann\nnobody,Bea\n"
    assert run(*UPDATE, written(tmp_path, content), "--failures", tmp_path / "failures.csv") == 1
    (failure,) = csv.DictReader((tmp_path / "failures.csv").read_text().splitlines())
    assert (failure["adapty_outcome"], failure["adapty_reason"], failure["adapty_line"]) == (
        "not_found",
        "there was no such profile",
        "3",
    )
    assert failure["adapty_status"] == "404"
    sim.add_profile(customer_user_id="nobody")
    assert run(*UPDATE, tmp_path / "failures.csv") == 0
    assert profile(sim, "nobody").attributes == {"first_name": "Bea"}


FED = [
    (
        "people.csv",
        "user,custom.a,email\nno body,it's,NULL\n",
        (
            "--column",
            "user",
            "--null",
            "NULL",
            "--empty",
            "",
            "--set",
            "custom.b=x y",
            "--attributes",
            "email,custom.a",
        ),
    ),
    ("people.tsv", "customer_user_id\temail\nno body\tNULL\n", ("--null", "NULL")),
    ("people.txt", '{"customer_user_id": "no body", "email": null}', ("--format", "jsonl")),
    ("people.jsonl", '{"customer_user_id": "no body", "email": null}', ()),
]


@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)])
@pytest.mark.parametrize(("name", "content", "options"), FED, ids=[name for name, _, _ in FED])
@pytest.mark.parametrize("failures", ["failed rows.csv", "failed.jsonl", "failed"])
def test_the_command_that_feeds_failures_back_writes_the_same(
    sim: Simulator,
    tmp_path: Path,
    say: Say,
    name: str,
    content: str,
    options: tuple[str, ...],
    failures: str,
    ledger: tuple[str, ...],
) -> None:
    path, held = (
        written(tmp_path, content, name),
        written(tmp_path, f"{'user' if '--column' in options else 'id'}\n{ONE}\n", "held.csv"),
    )
    excluded = ("--exclude", held, "--allow-unmatched-exclude")
    status, _, err = say(*UPDATE, path, *options, "--failures", failures, *excluded, *ledger)
    assert status == 1
    command = next(line for line in err.splitlines() if line.startswith("  adapty-async update "))
    sim.add_profile(customer_user_id="no body")
    _, *arguments = shlex.split(command)
    assert str(held) in arguments
    status, _, err = say(*arguments, *AT_ONCE, "--yes", *ledger)
    assert status == 0, err
    fed = profile(sim, "no body")
    assert fed.attributes == {"email": None}
    assert fed.custom_attributes == ({"a": "it's", "b": "x y"} if "custom.a" in content else {})


@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)])
def test_the_failures_of_json_lines_are_to_be_named_so(
    sim: Simulator, tmp_path: Path, say: Say, ledger: tuple[str, ...]
) -> None:
    rows = f'{{"customer_user_id": "{ONE}", "email": null}}\n' + "nonsense\n" * 11
    _, _, err = say(*UPDATE, written(tmp_path, rows, "people.jsonl"), "--max-failures", "100%", *ledger)
    assert "and more: --failures FILE.jsonl writes all of them" in err
    assert ("--failures FILE.jsonl writes the failed rows" if ledger else "--failures failures.jsonl\n") in err
    assert ".csv" not in err


@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)])
def test_the_failures_of_json_lines_are_json_lines_again(
    sim: Simulator, tmp_path: Path, ledger: tuple[str, ...]
) -> None:
    own = {"customer_user_id": "nobody", "email": None}
    last = {"customer_user_id": ONE, "email": None}
    path = written(tmp_path, f"{json.dumps(own)}\nnonsense\n{json.dumps(last)}\n", "people.jsonl")
    assert run(*UPDATE, path, "--failures", tmp_path / "failures.jsonl", *ledger) == 1
    failed = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    by_line = {row["adapty_line"]: row for row in failed}
    assert {name: by_line[1][name] for name in own} == own
    assert (by_line[1]["adapty_outcome"], by_line[2]["adapty_outcome"]) == ("not_found", "invalid")
    assert (by_line[1]["adapty_status"], by_line[2]["adapty_status"]) == (404, None)
    sim.add_profile(customer_user_id="nobody")
    assert run(*UPDATE, tmp_path / "failures.jsonl", *ledger) == 1
    assert profile(sim, "nobody").attributes == {"email": None}


def test_in_failures_json_stands_as_it_stood(sim: Simulator, tmp_path: Path) -> None:
    nested = '[1.10, {"\\u00e9]": "}"}, -0, 123456789012345678901.5]'
    row = f'{{ "customer_user_id":"nobody","email" :null, "far":1e400, "x" : {nested} ,"status": "own" }}\n'
    path = written(tmp_path, row, "people.jsonl")
    options = ("--attributes", "email", "--max-failures", "100%", "--no-ledger")
    own = f'{{"customer_user_id": "nobody", "email": null, "far": 1e400, "x": {nested}, "status": "own"'
    for name in ("first.jsonl", "second.jsonl"):
        assert run(*UPDATE, path, *options, "--failures", tmp_path / name) == 1
        path = tmp_path / name
        kept, _, rest = path.read_text().partition(', "adapty_outcome"')
        assert kept == own
        assert set(json.loads(f'{{"adapty_outcome"{rest}')) == set(ADDED_COLUMNS)
    sim.add_profile(customer_user_id="nobody")
    assert run(*UPDATE, path, *options) == 0


def test_a_number_beyond_all_that_adapty_knows_is_invalid_and_stays_what_it_is(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    rows = f'{{"customer_user_id": "{ONE}", "custom.n": 1e400}}\n{{"customer_user_id": "{TWO}", "custom.n": 1}}\n'
    path = written(tmp_path, rows, "people.jsonl")
    status, _, err = say(*UPDATE, path, "--failures", tmp_path / "failures.jsonl")
    assert status == 1
    assert "line 1: custom.n must be a finite number" in err
    assert (tmp_path / "failures.jsonl").read_text().startswith(rows.split("}")[0])


def test_the_ids_stay_where_their_field_has_a_name_of_the_failures(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, '{"adapty_line": "nobody", "email": null}\n', "people.jsonl")
    failures = tmp_path / "failures.jsonl"
    assert run(*UPDATE, path, "--column", "adapty_line", "--failures", failures, "--no-ledger") == 1
    assert json.loads(failures.read_text())["adapty_line"] == "nobody"


def test_nobody_is_updated_who_is_excluded(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, f"customer_user_id,first_name\n{ONE},Ann\n{TWO},Bea\n")
    held = written(tmp_path, f"{ONE}\n", "held.csv")
    assert run(*UPDATE, path, "--exclude", held) == 0
    assert profile(sim, ONE).attributes == {}
    assert profile(sim, TWO).attributes == {"first_name": "Bea"}


def test_whoever_is_excluded_later_has_the_values_that_the_ledger_knows(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    path = written(tmp_path, f"customer_user_id,first_name\n{ONE},Ann\n{TWO},Bea\n")
    sim.inject(Fault.REDIRECT, method="PATCH")
    assert run(*UPDATE, path, "--concurrency", 1) == 1
    held = written(tmp_path, f"{ONE}\n", "held.csv")
    assert say("retry-failed", ledger_of(path), "--exclude", held)[0] == 1
    assert profile(sim, ONE).attributes == {}


def test_without_a_ledger_it_updates_as_well(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = written(tmp_path, f"customer_user_id,first_name\n{ONE},Ann\nnobody,Bea\n{ONE},Ann\n")
    status, out, err = say(*UPDATE, path, "--no-ledger", "--failures", tmp_path / "failures.csv", "--null", "-")
    assert status == 1
    assert "Adapty accepted the update" in out
    assert f"adapty-async update {tmp_path / 'failures.csv'} --by customer_user_id --null -" in err
    assert profile(sim, ONE).attributes == {"first_name": "Ann"}
    assert not ledger_of(path).exists()


def test_values_come_from_standard_input(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = f'{{"customer_user_id": "{ONE}", "first_name": "Ann"}}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(row.encode())))
    assert run(*UPDATE, "-", "--format", "jsonl") == 0
    assert profile(sim, ONE).attributes == {"first_name": "Ann"}
    assert not (tmp_path / "stdin.adapty.db.spool").exists()


@pytest.mark.parametrize(("typed", "status"), [("1\n", 0), ("y\n", 2)])
def test_on_a_terminal_it_says_what_is_written_and_asks(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, status: int
) -> None:
    path = written(tmp_path, f"customer_user_id,first_name,custom.team\n{ONE},Ann,blue\n")
    screen = Keyboard()
    monkeypatch.setattr("sys.stdin", Keyboard(typed))
    monkeypatch.setattr("sys.stderr", screen)
    arguments = [str(path), "--by", "customer_user_id", "--set", "custom.campaign=spring"]
    assert main(["update", *AT_ONCE, *arguments]) == status
    shown = screen.getvalue()
    assert "attributes written: first_name, custom.team; the same in every row: custom.campaign" in shown
    assert "Type 1 to update it" in shown
    assert not {"Ann", "blue", "spring"} & set(shown.replace(":", " ").split())
    assert sim.stats.requests == (0 if status else 1)


# With a ledger


def test_a_job_goes_on_where_it_was_and_its_record_says_update(sim: Patient, tmp_path: Path, say: Say) -> None:
    rows = "".join(f"{id_},Ann\n" for id_ in ids(30))
    path = written(tmp_path, f"customer_user_id,first_name\n{rows}")
    with interrupting_after(sim, 3):
        assert run(*UPDATE, path, "--set", "custom.a=1", "--concurrency", 2) == 130
    assert 3 <= sim.stats.requests < 30
    status, out, _ = say("resume", ledger_of(path))
    assert (status, sim.stats.requests) == (0, 30)
    assert "updated" in out
    assert profile(sim, ONE).custom_attributes == {"a": "1"}
    assert "update by customer_user_id" in say("status", ledger_of(path))[1]
    assert say("export", ledger_of(path), "--ids", "plain")[1].count(",updated,200,1,") == 30
    record = say("report", ledger_of(path))[1]
    assert "# Record of a mass update" in record
    assert "| updated | 30 |" in record
    assert "detaches" not in record
    assert "Adapty accepted the update (200)" in say("show", ledger_of(path), ONE)[1]
    status, _, err = say("verify", ledger_of(path))
    assert status == 2
    assert "only deletions can be verified" in err


@pytest.mark.parametrize("change", ["Eve", "x@"])
def test_other_values_than_before_are_refused(sim: Simulator, tmp_path: Path, say: Say, change: str) -> None:
    content = f"customer_user_id,email,first_name\n{ONE},a@b.example,Ann\nnobody,,Bea\n"
    path = written(tmp_path, content)
    assert run(*UPDATE, path) == 1
    path.write_text(content.replace("Bea", change) if change == "Eve" else content.replace("a@b.example", change))
    requests = sim.stats.requests
    status, _, err = say("retry-failed", ledger_of(path))
    assert (status, sim.stats.requests) == (5, requests)
    assert "restore the original file" in err


@pytest.mark.parametrize(
    ("people", "place"),
    [
        (1, "differ at line 3"),
        (3, "differ somewhere in lines 3 to 5"),
        (1003, "differ somewhere in lines 1,003 to 1,005"),
    ],
)
def test_where_only_values_are_others_it_says_where_they_may_be(
    sim: Simulator, tmp_path: Path, say: Say, people: int, place: str
) -> None:
    def rows(last: str) -> str:
        numbers = [*map(str, range(people - 1)), last]
        return "customer_user_id,custom.n\n\n" + "".join(f"nobody-{who},{n}\n" for who, n in enumerate(numbers))

    path = written(tmp_path, rows("old"))
    assert run(*UPDATE, path, "--max-failures", "100%") == 1
    path.write_text(rows("new"))
    status, _, err = say("retry-failed", ledger_of(path))
    assert status == 5
    assert f"its IDs are the same, but the attributes {place}; restore the original file" in err


def test_what_failed_is_sent_again_with_its_values(sim: Simulator, tmp_path: Path) -> None:
    path = written(tmp_path, f"customer_user_id,first_name\n{ONE},Ann\n")
    sim.inject(*[Fault.SERVER_ERROR] * 4)
    assert run(*UPDATE, path) == 1
    assert run("retry-failed", ledger_of(path)) == 0
    assert profile(sim, ONE).attributes == {"first_name": "Ann"}


def test_rows_that_were_added_are_taken_and_conflicts_with_earlier_ones_are_not(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    path = written(tmp_path, f"customer_user_id,first_name\n{ONE},Ann\n")
    assert run(*UPDATE, path) == 0
    with path.open("a") as file:
        file.write(f"{TWO},Bea\n{ONE},Eve\n")
    assert say("resume", ledger_of(path), "--allow-appended", "--yes")[0] == 2
    path.write_text(path.read_text().replace("Eve", "Ann"))
    assert say("resume", ledger_of(path), "--allow-appended", "--yes")[0] == 0
    assert profile(sim, TWO).attributes == {"first_name": "Bea"}
    assert sim.stats.requests == 2


def test_what_may_have_been_updated_long_ago_is_in_doubt_until_somebody_asks_for_it(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "customer_user_id,first_name\n" + "".join(f"{id_},Ann\n" for id_ in ids(30)))
    sim.latency = 0.3
    with started([*UPDATE, str(path), "--concurrency", "30"], settings_for(sim)) as process:
        wait_until(lambda: sim.stats.requests >= 2)
        process.kill()
        process.communicate()
    sim.latency = 0.0
    wait_until(lambda: not sim.stats.in_flight)
    profile(sim, ONE).attributes["first_name"] = "Bea, as the app wrote since"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 16 * 60)
    requests = sim.stats.requests
    status, out, _ = say("resume", ledger_of(path))
    assert status == 1
    assert "in_doubt" in out
    assert profile(sim, ONE).attributes["first_name"] == "Bea, as the app wrote since"
    assert sim.stats.requests < requests + 30
    assert say("retry-failed", ledger_of(path))[0] == 0
    assert profile(sim, ONE).attributes["first_name"] == "Ann"


def test_no_id_and_no_value_of_the_file_is_in_the_ledger_or_the_record(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    path = written(tmp_path, f"customer_user_id,email\n{ONE},ann@mail.example\nnobody@mail.example,x@mail.example\n")
    shown = "".join(map(str, say(*UPDATE, path, "--set", "custom.campaign=spring")))
    shown += "".join(map(str, say("report", ledger_of(path), "--format", "json")))
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name.startswith(ledger_of(path).name))
    for secret in (ONE, "mail.example"):
        assert secret not in shown
        assert secret.encode() not in kept
    assert b"campaign=spring" in kept


def test_the_export_has_the_status_of_whoever_was_not_found(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = written(tmp_path, f"customer_user_id,first_name\n{ONE},Ann\nnobody,Bea\n")
    assert run(*UPDATE, path) == 1
    rows = csv.DictReader(say("export", ledger_of(path))[1].splitlines())
    assert [(row["outcome"], row["status"]) for row in rows] == [("updated", "200"), ("not_found", "404")]
