"""IDs that look like other IDs: with invisible characters, equal to a header, or rounded by a spreadsheet."""

import importlib
import json
import shlex
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli.inputs.damaged_ids import find_invisible, is_invisible
from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.inputs.rounded_ids import RoundingDetector
from tests.cli.served import AT_ONCE, settings_for
from tests.cli.terminal import shell_in
from tests.cli.witness import Say, Witness, ids, ledger_of

pyarrow: Any = importlib.import_module("pyarrow")
parquet: Any = importlib.import_module("pyarrow.parquet")

BY = ("--by", "customer_user_id")
DELETE = ("delete", *AT_ONCE, *BY, "--yes", "--max-absent", "100%")
SHOWN_AS_NOTHING = [
    *("\ufeff", "\u200b", "\u00ad", "\u200d", "\u200c", "\u2060", "\u180e"),
    *("\u200e", "\u202e", "\u2066", "\u061c"),  # directional marks
    *("\ufe0f", "\U000e0100", "\U000e0041", "\u034f", "\u115f", "\u3164", "\u2800"),
    *("\u00a0", "\u2007", "\u202f", "\u3000", "\u2028", "\u2029", "\ue000"),
]


def write(folder: Path, name: str, people: list[str]) -> Path:
    path = folder / name
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table({"customer_user_id": people}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"customer_user_id": id_}) + "\n" for id_ in people), encoding="utf-8")
    else:
        path.write_text("".join(f"{id_}\n" for id_ in ["customer_user_id", *people]), encoding="utf-8")
    return path


NAMES = ["people.csv", "people.tsv", "people.ids", "people.jsonl", "people.parquet"]


# Invisible characters


@pytest.mark.parametrize("character", SHOWN_AS_NOTHING, ids=lambda character: f"U+{ord(character):04X}")
@pytest.mark.parametrize("text", ["u{}1", "{}u", "u{}"])
def test_an_invisible_character_is_named(character: str, text: str) -> None:
    is_at_an_end = text != "u{}1" and character.isspace()  # the library refuses these
    assert find_invisible(text.format(character)).startswith("" if is_at_an_end else f"U+{ord(character):04X} (")


@pytest.mark.parametrize("text", ["u1", "Müller", "e\u0301", "Doe, Ann", "😀", "नमस्ते", "أحمد", "李", "a·b", "\u0e33"])
def test_what_is_seen_is_no_damage(text: str) -> None:
    assert find_invisible(text) == ""


def test_each_code_point_that_is_no_letter_mark_number_sign_or_space_is_invisible() -> None:
    shown = {
        chr(point)
        for point in range(0x110000)
        if unicodedata.category(chr(point)) not in ("Cf", "Co", "Zl", "Zp", "Zs", "Cc", "Cs", "Cn")
    }
    wrong = {f"{ord(character):04X}" for character in shown if is_invisible(character)}
    assert len(wrong) == 268  # 240 of them are variation selectors of Chinese characters
    assert not is_invisible(" ")


@pytest.mark.parametrize("name", NAMES)
def test_they_refuse_the_file_or_are_left_out_or_are_sent_as_they_are(
    witness: Witness, tmp_path: Path, say: Say, name: str
) -> None:
    path = write(tmp_path, name, [*ids(2), "bo\u200bb"])
    status, out, err = say(*DELETE, path)
    assert (status, out) == (2, "")
    assert "the ID contains an invisible character, U+200B (zero width space): export the IDs again" in err
    assert "bo" not in err.replace("--allow", "").replace("about", "").replace("people", "")
    assert witness.stats.requests == 0
    assert not ledger_of(path).exists()
    assert say(*DELETE, path, "--skip-damaged", "--no-ledger")[0] == 1
    assert set(witness.log) == set(ids(2))


def test_they_are_sent_as_they_are_by_every_run_that_was_told_so(witness: Witness, tmp_path: Path, say: Say) -> None:
    path = write(tmp_path, "people.csv", [*ids(2), "bo\u200bb"])
    status, out, _ = say("plan", path, *BY, "--allow-invisible")
    assert status == 0
    assert f"adapty-async delete {path} --by customer_user_id --allow-invisible" in out
    assert say("delete", *AT_ONCE, *BY, "--yes", path, "--allow-invisible")[0] == 0
    assert witness.stats.responses == {("DELETE", 204): 2, ("DELETE", 404): 1}
    assert say("resume", ledger_of(path))[0] == 0
    assert say("export", ledger_of(path), "--ids", "plain")[0] == 0


@pytest.mark.parametrize("command", ["plan", "get", "delete", "update", "create"])
def test_every_command_refuses_them(witness: Witness, tmp_path: Path, say: Say, command: str) -> None:
    path = write(tmp_path, "people.csv", [*ids(2), "bo\u200bb"])
    options = ["--set", "custom.a=b"] if command == "update" else []
    options += ["--yes"] if command in ("delete", "update", "create") else []
    status, out, err = say(command, path, *BY, *options)
    assert (status, out) == (2, "")
    assert "--allow-invisible" in err
    assert witness.stats.requests == 0


def test_rows_that_are_added_are_looked_at_as_the_first_were(witness: Witness, tmp_path: Path, say: Say) -> None:
    path = write(tmp_path, "people.csv", ids(2))
    assert say(*DELETE, path)[0] == 0
    with path.open("a", encoding="utf-8") as file:
        file.write("bo\u200bb\n")
    assert say("resume", ledger_of(path), "--allow-appended", "--yes")[0] == 2
    assert say("resume", ledger_of(path), "--allow-appended", "--yes", "--allow-invisible", *AT_ONCE)[0] == 0
    assert say("resume", ledger_of(path))[0] == 0
    assert witness.stats.requests == 3


@pytest.mark.parametrize("command", ["resume", "verify"])
def test_an_id_that_is_named_on_the_command_line_has_none(
    witness: Witness, tmp_path: Path, say: Say, command: str
) -> None:
    path = write(tmp_path, "people.csv", [*ids(2)])
    assert say(*DELETE, path)[0] == 0
    status, _, err = say(command, ledger_of(path), "--new-key", "--witness-id", f"{ids(3)[2]}\u200b")
    assert status == 2
    assert err == (
        "adapty-async: the ID of --witness-id contains an invisible character, U+200B (zero width space): remove it\n"
    )


# A header among the IDs


@pytest.mark.parametrize("name", NAMES)
def test_a_header_that_stands_there_again_refuses_the_file(
    witness: Witness, tmp_path: Path, say: Say, name: str
) -> None:
    path = write(tmp_path, name, [*ids(2), "customer_user_id", *ids(3)[2:]])
    status, _, err = say(*DELETE, path)
    assert status == 2
    unit = {"people.parquet": "row 3", "people.jsonl": "line 3"}.get(name, "line 4")
    assert f"{unit}: the header is repeated, as if files had been joined: remove the line" in err
    assert witness.stats.requests == 0
    assert say(*DELETE, path, "--skip-damaged", "--no-ledger")[0] == 1
    assert set(witness.log) == set(ids(3))


# Numbers rounded by a spreadsheet

ROUNDED = ["1234567890123450", "1234567890123460", "12345678901234500", "123456789012345000", "9999999999999990"]


@pytest.mark.parametrize(
    ("people", "suspect"),
    [
        (ROUNDED, 5),
        ([*ROUNDED, "u1", "12"], 5),
        ([ROUNDED[0]] * 5, 5),
        (ROUNDED[1:], 0),
        ([*ROUNDED, "1234567890123451"], 0),
        ([*ROUNDED, "12345678901234510"], 0),
        (["0000000000000010"] * 9, 0),
        (["123456789012340"] * 9, 0),
        (["1234567890123450@example.com"] * 9, 0),
        (["١٢٣٤٥٦٧٨٩٠١٢٣٤٥٠"] * 9, 0),
    ],
)
def test_long_numbers_are_suspect_where_none_has_kept_its_digits(people: list[str], suspect: int) -> None:
    rounding = RoundingDetector()
    rounding.add(people[:3])
    rounding.add(people[3:])
    assert rounding.suspect_count == suspect


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ["plan", "get", "delete", "update", "create"])
def test_suspect_numbers_refuse_the_file_unless_they_are_said_to_be_right(
    witness: Witness, tmp_path: Path, say: Say, name: str, command: str
) -> None:
    path = write(tmp_path, name, ROUNDED)
    options = ["--set", "custom.a=b"] if command == "update" else []
    options += ["--yes", "--no-ledger"] if command in ("delete", "update", "create") else []
    options += ["--max-absent", "100%"] if command == "delete" else []
    status, _, err = say(command, path, *BY, *options, *AT_ONCE)
    assert status == 2
    assert "contains 5 IDs of 16 or more digits" in err
    assert "if they are right, add --allow-rounded" in err
    assert witness.stats.requests == 0
    assert say(command, path, *BY, *options, *AT_ONCE, "--allow-rounded")[0] in (0, 1)
    assert witness.stats.requests == (0 if command == "plan" else 5)


@pytest.mark.parametrize(("answer", "status"), [("yes", 0), ("no", 2)])
def test_whoever_sits_there_is_asked(witness: Witness, tmp_path: Path, answer: str, status: int) -> None:
    path = write(tmp_path, "people.csv", ROUNDED)
    folder = tmp_path / "shell"
    folder.mkdir()
    with shell_in(folder, settings_for(witness)) as shell:
        shell.enter(shlex.join(["adapty-async", "delete", *AT_ONCE, *BY, "--max-absent", "100%", str(path)]))
        shell.until("Type yes if they are right: ")
        shell.type(f"{answer}\n")
        if not status:
            shell.until("Type 5 to delete them: ")
            shell.type("5\n")
        assert shell.ended()[0] == status
    assert witness.stats.requests == (0 if status else 5)


def test_what_was_said_to_be_right_stays_so(witness: Witness, tmp_path: Path, say: Say) -> None:
    path = write(tmp_path, "people.csv", ROUNDED)
    assert say(*DELETE, path, "--allow-rounded")[0] == 0
    with path.open("a", encoding="utf-8") as file:
        file.write("1234567890123470\n")
    assert say("resume", ledger_of(path), "--allow-appended", "--yes")[0] == 0
    assert witness.stats.requests == 6


def test_an_invalid_outcome_is_that_of_a_row_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "people.csv", ["u1", "u\u200b2"])
    with open_id_input(path, by="customer_user_id", skip_damaged=True) as opened:
        assert [row.outcome for row in opened.iter_rows()] == [None, Outcome.INVALID]
