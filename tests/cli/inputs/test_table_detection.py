"""Tables in other dialects, files of other kinds that look like one ID per line, and unusual IDs that are valid."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async.bulk.operations import IdType
from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.inputs.input_types import Format, InputError
from tests.cli.served import AT_ONCE
from tests.cli.witness import Say, Witness, ids, ledger_of

BY = ("--by", "customer_user_id")
DELETE = ("delete", *AT_ONCE, *BY, "--yes")
PROFILE = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"


def workbook() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<sheetData/>")
    return file.getvalue()


def text(*rows: str, encoding: str = "utf-8", newline: str = "\n") -> bytes:
    return newline.join([*rows, ""]).encode(encoding)


def people(template: str, count: int = 20) -> list[str]:
    return [template.format(n, f"user{n}@example.com") for n in range(count)]


# Tables and files that aren't text: name and error message.
TABLES: dict[str, tuple[str, bytes, str]] = {
    "Excel's German CSV": ("a.csv", text("E-Mail;Grund", *people("{1};DSGVO"), newline="\r\n"), "';'"),
    "with a mark": ("a.csv", b"\xef\xbb\xbf" + text("E-Mail;Grund", *people("{1};DSGVO")), "';'"),
    "with two rows": ("a.csv", text("E-Mail;Grund", "a@b.example;x"), "';'"),
    "of a header alone": ("a.csv", text("E-Mail;Grund"), "';'"),
    "in quotes": ("a.csv", text('"E-Mail";"Grund"', *people('"{1}";"Gericht; Az. 7"')), "';'"),
    "in quotes, without a header": ("a.csv", text(*people('"u{0}";"x"')), "';'"),
    "Latin-1": ("a.csv", text("E-Mail;Kündigung", *people("{1};für"), encoding="latin-1"), "';'"),
    "after sep=;": ("a.csv", text("sep=;", "E-Mail;Grund", *people("{1};x")), "sep="),
    "after SEP=,": ("a.csv", text("SEP=,", "mail,reason", *people("{1},x")), "sep="),
    "after sep= and a tab": ("a.csv", text("sep=\t", "mail\treason", *people("{1}\tx")), "sep="),
    "of other words, by figures": ("a.csv", text("Kennung;Anlass", *people("u{0};DSGVO")), "';'"),
    "without a header, of addresses": ("a.csv", text(*people("{1};court order")), "';'"),
    "without a header, of UUIDs": ("a.csv", text(*people(f"{PROFILE};{{0}}")), "';'"),
    "with a separator at each end": ("a.csv", text(*people("u{0};")), "';'"),
    "with separators at each end": ("a.csv", text("Kunde;;", *people("u{0};;")), "';'"),
    "with one row too long": ("a.csv", text("E-Mail;Grund", *people("{1};x"), "a@b.example;x;y"), "';'"),
    "below a title": ("a.csv", text("Sperrliste", "Kennung;Anlass", *people("u{0};DSGVO")), "';'"),
    "of three columns": ("a.csv", text("Nr;E-Mail;Grund", *people("{0};{1};x")), "';'"),
    "with blank lines": ("a.csv", text("", "E-Mail;Grund", "", *people("{1};x")), "';'"),
    "TSV": ("a.csv", text("mail\treason", *people("{1}\tx")), "name it .tsv"),
    "TSV, without a header": ("a.csv", text(*people("u{0}\tx")), "name it .tsv"),
    "bars": ("a.csv", text("mail|reason", *people("{1}|x")), "'|'"),
    "CSV, one ID per line": ("a.ids", text("mail,reason", *people("{1},x")), "name it .csv"),
    "CSV, one ID per line, without a header": ("a.ids", text(*people("{1},x")), "name it .csv"),
    "CSV with a comma at each end": ("a.ids", text(*people("u{0},")), "name it .csv"),
    "CSV with all cells in quotes, one ID per line": ("a.ids", text(*people('"u{0}","x"')), "name it .csv"),
    "CSV of one column in quotes, one ID per line": ("a.ids", text(*people('"u{0}"')), "around every line"),
    "a list of SQL": ("a.ids", text(*people("'u{0}',")), "around every line"),
    "single quotes": ("a.csv", text(*people("'u{0}'")), "around every line"),
    "lines in quotes as a whole": ("a.csv", text('"mail,reason"', *people('"{1},x"')), "quotes around whole lines"),
    "semicolons in quotes as a whole": ("a.csv", text('"mail;reason"', *people('"{1};x"')), "';'"),
    "semicolons, named TSV": ("a.tsv", text("mail;reason", *people("{1};x")), "';'"),
    "CSV, named TSV": ("a.tsv", text("mail,reason", *people("{1},x")), "name it .csv"),
    "UTF-16": ("a.csv", text("E-Mail;Grund", *people("{1};x"), encoding="utf-16"), "UTF-16"),
    "UTF-16 without a mark": ("a.csv", text("E-Mail;Grund", *people("{1};x"), encoding="utf-16-le"), "UTF-16"),
    "UTF-16 without a mark, big end first": ("a.ids", text(*people("u{0}"), encoding="utf-16-be"), "UTF-16"),
    "EBCDIC": ("a.csv", text(*people("u{0}"), encoding="cp500"), "another encoding"),
    "a workbook": ("a.xlsx", workbook(), "workbook"),
    "a workbook with another name": ("a.csv", workbook(), "workbook"),
    "a workbook of HTML": ("a.xls", b"<html><table><tr><td>u1</td></tr></table></html>", "HTML"),
    "a workbook of XML": ("a.xls", b'\n<?xml version="1.0"?>\n<Workbook>\nu1\n</Workbook>\n', "XML"),
    "a picture": ("a.csv", bytes(range(256)) * 20, "isn't UTF-8 text"),
    "a JSON list": ("a.csv", b'[{"customer_user_id": "u1"}, {"customer_user_id": "u2"}]', "JSON"),
    "a JSON list on many lines": ("a.csv", b'[\n  "u1",\n  "u2"\n]\n', "JSON"),
    "a JSON list of numbers, one ID per line": ("a.ids", b"[1, 2, 3]\n", "JSON"),
    "a JSON list that begins a line of its own": ("a.ids", b"[\n1,\n2\n]\n", "JSON"),
    "JSON lines, one ID per line": ("a.ids", b'{"customer_user_id": "u1"}\n', "JSON"),
}
# Files with one ID per line, with all kinds of IDs.
IDS: dict[str, tuple[str, list[str]]] = {
    "plain": ("a.csv", people("u{0}")),
    "addresses": ("a.csv", people("{1}")),
    "some with a semicolon": ("a.csv", ["u1", "u;2", "u3", "u4;;5"]),
    "two parts, a semicolon": ("a.csv", people("tenant;{0}")),
    "two parts, the first line a word": ("a.ids", ["user;1", "user;2", "guest;3"]),
    "two words, a semicolon": ("a.ids", ["a;b", "c;d", "e;f"]),
    "two parts, a comma": ("a.ids", people("{0},7")),
    "Auth0": ("a.csv", ["auth0|5f7c8ec7c33c6c004bbafe82", *people("google-oauth2|1134{0}"), "sms|5f7c"]),
    "Auth0, one ID per line": ("a.ids", people("auth0|5f7c8ec7c33c6c00{0}")),
    "two parts with addresses, a bar": ("a.ids", people("tenant|{1}")),
    "distinguished names": ("a.ids", people("cn=user{0},ou=people,dc=example,dc=com")),
    "names": ("a.ids", ["Lovelace, Ada", "Turing, Alan", "Hopper, Grace"]),
    "below a header": ("a.csv", ["customer_user_id", *people("{1};x")]),
    "below the name of ids": ("a.ids", ["id", *people("{1},x")]),
    "a quote here and there": ("a.ids", ['"u1"', "u2", "u3", "it's"]),
    "one with a brace": ("a.ids", ["[u1]", "{u2}"]),
    "one": ("a.ids", ["a;b"]),
    "numbers": ("a.ids", ["1;5", "2;5"]),
    "paths": ("a.ids", people("/home/{0};x=1")),
}


def opened(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    with open_id_input(path, by="customer_user_id") as found:
        found.check()
        return [row.id for row in found.iter_rows() if row.outcome is None]


@pytest.mark.parametrize("what", TABLES)
def test_a_table_in_another_dialect_is_refused_with_what_to_do(tmp_path: Path, what: str) -> None:
    name, content, says = TABLES[what]
    with pytest.raises(InputError) as refusal:
        opened(tmp_path / name, content)
    assert says in str(refusal.value)
    assert "@example" not in str(refusal.value)


@pytest.mark.parametrize("what", TABLES)
def test_it_is_no_exclude_list_whatever_is_allowed(witness: Witness, tmp_path: Path, say: Say, what: str) -> None:
    name, content, says = TABLES[what]
    (tmp_path / name).write_bytes(content)
    everybody = tmp_path / "everybody.csv"
    everybody.write_text("\n".join(["customer_user_id", *ids(30)]))
    status, out, err = say(*DELETE, everybody, "--exclude", name, "--allow-unmatched-exclude")
    assert (status, out) == (2, "")
    assert err.startswith("adapty-async: --exclude: ")
    assert says in err
    assert witness.stats.requests == 0
    assert not ledger_of(everybody).exists()


@pytest.mark.parametrize("what", IDS)
def test_an_id_may_have_any_character_in_it(tmp_path: Path, what: str) -> None:
    name, lines = IDS[what]
    people = lines[1:] if lines[0] in ("customer_user_id", "id") else lines
    assert opened(tmp_path / name, text(*lines)) == people


def test_an_id_in_two_parts_may_be_written_as_json_lines_where_it_looks_like_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert opened(path, text(*(f'"{line}"' for line in people("{1};x")))) == people("{1};x")


@pytest.mark.parametrize("by", ["customer_user_id", "profile_id"])
def test_the_dialect_is_said_for_either_kind_of_id(tmp_path: Path, by: IdType) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text("Profil;Grund", *people(f"{PROFILE};x")))
    with open_id_input(path, by=by) as found, pytest.raises(InputError, match="';'"):
        found.check()


def test_a_format_that_was_asked_for_is_looked_at_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(text("mail,reason", *people("{1},x")))
    with (
        open_id_input(path, by="customer_user_id", format=Format.IDS) as found,
        pytest.raises(InputError, match="name it"),
    ):
        found.check()


@settings(deadline=None)  # a disk may be slow
@given(lines=st.lists(st.text("ab1;,|\"' ", min_size=1, max_size=6), min_size=1, max_size=9))
def test_what_is_not_refused_is_read_as_it_stands(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "a.ids"
    try:
        sent = opened(path, text(*lines))
    except InputError:
        return
    assert set(sent) <= set(lines)


def test_long_lines_are_looked_at_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.ids"
    path.write_bytes(text(*["x" * 900_000] * 100))
    tracemalloc.start()
    with open_id_input(path, by="customer_user_id") as found:
        found.read_schema()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
