"""Unusual inputs and their results: never a traceback, never a wrong ID, and no row is lost."""

import gzip
import importlib
import io
import json
import lzma
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest

from adapty_async.bulk import Outcome, SkippedItem
from adapty_async.bulk.operations import IdType
from adapty_async.cli.inputs.id_input import IdInput, open_id_input
from adapty_async.cli.inputs.input_types import Format, InputError, Row
from tests.cli.witness import Say

pyarrow: Any = importlib.import_module("pyarrow")
parquet: Any = importlib.import_module("pyarrow.parquet")

PROFILE = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"
LONG = "x" * 200_000
ENDLESS = "x" * 3_000_000


@attrs.frozen(kw_only=True)
class Given:
    """An input and its result: the IDs to `send`, and the lines that are `invalid` or `repeated`.

    `refused`: a part of the error message if the input is refused.
    """

    what: str
    name: str
    content: bytes
    by: IdType = "customer_user_id"
    column: str | None = None
    format: Format | None = None
    accept_damaged: bool = False
    allow_invisible: bool = False
    send: Sequence[str] = ()
    invalid: Sequence[int] = ()
    repeated: Sequence[int] = ()
    refused: str = ""


def csv(what: str, content: str | bytes, *send: str, name: str = "people.csv", **more: Any) -> Given:
    """Return a text file, by default CSV."""
    octets = content.encode() if isinstance(content, str) else content
    return Given(what=what, name=name, content=octets, send=send, **more)


def jsonl(what: str, content: str | bytes, *send: str, **more: Any) -> Given:
    """Return a file of JSON lines."""
    return csv(what, content, *send, name="people.jsonl", **more)


def of_id(*values: Any) -> str:
    """Write one object per line."""
    return "".join(json.dumps({"customer_user_id": value}) + "\n" for value in values)


def table(what: str, values: Any, *send: str, key: str = "customer_user_id", **more: Any) -> Given:
    """Return a Parquet file with a column of IDs and another column."""
    made = pyarrow.table({"n": pyarrow.array(range(len(values))), key: values})
    return Given(what=what, name=more.pop("name", "people.parquet"), content=written(made), send=send, **more)


def written(made: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(made, file, **options)
    return file.getvalue()


def array(values: Sequence[Any], kind: Any = None) -> Any:
    return pyarrow.array(values, kind)


TWO = "id\nu1\nu2\n"
PACKED = gzip.compress(TWO.encode())
PEOPLE = written(pyarrow.table({"customer_user_id": ["u1", "u2"]}))

ENCODINGS = [
    csv("a byte order mark", b"\xef\xbb\xbf" + TWO.encode(), "u1", "u2"),
    csv("two byte order marks", b"\xef\xbb\xbf" * 2 + b"customer_user_id\nu1\n", refused="begins with"),
    csv("a byte order mark and nothing else", b"\xef\xbb\xbf", refused="contains no IDs"),
    csv("Latin-1", "id\nMüller\nu2\n".encode("latin-1"), "u2", invalid=[2]),
    csv("UTF-16", TWO.encode("utf-16"), refused="UTF-16"),
    csv("UTF-16, without a mark", TWO.encode("utf-16-le"), refused="such as UTF-16 without a byte order mark"),
    csv("UTF-32", TWO.encode("utf-32-be").join([b"\0\0\xfe\xff", b""]), refused="UTF-32"),
    csv("a UTF-8 letter cut in half", b"id\nu\xc3\nu2\n", "u2", invalid=[2]),
    csv("surrogates as CESU-8", b"id\n\xed\xa0\xbd\xed\xb8\x80\nu2\n", "u2", invalid=[2]),
    csv("overlong UTF-8", b"id\n\xc0\xafu1\nu2\n", "u2", invalid=[2]),
    csv("composed and decomposed", "id\n\u00e9\ne\u0301\n", "\u00e9", "e\u0301"),
    csv("emoji", "id\n😀\n", "😀"),
    csv("a separator of lines that is none", "id\nu\u20281\nu2\n", refused=r"U+2028 (line separator)"),
    csv("one that is allowed", "id\nu\u20281\nu2\n", "u\u20281", "u2", allow_invisible=True),
    csv(
        "a byte order mark amid a file", "id\nu1\n\ufeffu2\n", refused="line 3: the ID contains an invisible character"
    ),
    csv("a byte order mark, left out", "id\nu1\n\ufeffu2\n", "u1", accept_damaged=True, invalid=[3]),
    csv("files that were joined", "id\nu1\nid\nu2\n", refused="line 3: the header is repeated"),
    csv(
        "files that were joined, header in another case",
        "customer_user_id\nu1\nCustomer_User_Id\nu2\n",
        refused="line 3: the header is repeated",
    ),
    csv(
        "a capital header, repeated in small letters",
        "Mail,n\nu1,1\nmail,n\n",
        column="Mail",
        refused="line 3: the header",
    ),
    csv("joined to a list without a header, in another case", "u1\nID\nu2\n", refused="line 2: the header"),
    csv("an ID that only contains the header", "id\nid,\nmy id\n", "my id", invalid=[2]),
    csv("files that were joined, left out", "id\nu1\nid\nu2\n", "u1", "u2", accept_damaged=True, invalid=[3]),
    csv("joined tables", "n,customer_user_id\nn,u1\nn,customer_user_id\n", refused="line 3: the header"),
    csv(
        "joined tables, other order",
        "n,customer_user_id\n1,u1\ncustomer_user_id,n\nu2,2\n",
        refused="line 3: the header is repeated with its columns in another order",
        accept_damaged=True,
    ),
    csv(
        "joined tables, other order and other case",
        "n,customer_user_id\n1,u1\nCustomer_User_Id,N\nu2,2\n",
        refused="line 3: the header is repeated with its columns in another order",
        accept_damaged=True,
    ),
    csv("an ID like a column's name", "n,customer_user_id\n1,u1\n2,n\n", "u1", "n"),
    csv("joined to a list without a header", "u1\ncustomer_user_id\nu2\n", refused="line 2: the header"),
    csv("joined tables, another column", "mail,id\nm1,1\nmail,id\n", column="mail", refused="line 3: the header"),
    csv("NUL in an id", b"id\nu\0001\nu2\n", "u2", invalid=[2]),
    csv("NUL in another column", b"customer_user_id,n\nu1,\0\nu2,n\n", "u2", invalid=[2]),
    csv("nothing but NUL", bytes(5000), refused="NUL"),
    csv("a workbook", b"PK\x03\x04...", refused="workbook"),
    csv("an old workbook", b"\xd0\xcf\x11\xe0\xa1\xb1", refused="workbook"),
    csv("a PDF", b"%PDF-1.7\n", refused="PDF"),
    csv("an SQLite database", b"SQLite format 3\0", refused="SQLite"),
]
LINES = [
    csv("CRLF", "id\r\nu1\r\nu2\r\n", "u1", "u2"),
    csv("CR alone", "id\ru1\ru2\r", "u1", "u2"),
    csv("mixed ends of lines", "id\r\nu1\nu2\ru3\n\ru4", "u1", "u2", "u3", "u4"),
    csv("no end of the last line", "id\nu1\nu2", "u1", "u2"),
    csv("blank lines", "\n\nid\n\nu1\n \t \nu2\n\n", "u1", "u2"),
    csv("empty", "", refused="contains no IDs"),
    csv("blank", "\n \n\r\n", refused="contains no IDs"),
    csv("a header alone", "customer_user_id\n", refused="contains no IDs"),
    csv("a field that is too long", f"id\nu1\n{LONG}\nu3\n", "u1", "u3", invalid=[3]),
    csv("a line that is too long", f"id\nu1\n{ENDLESS}\nu3\n", "u1", "u3", invalid=[3]),
    csv("the last line too long", f"id\nu1\n{ENDLESS}", "u1", invalid=[3]),
    csv("a line too long, CRLF", f"id\r\nu1\r\n{ENDLESS}\r\nu3\r\n", "u1", "u3", invalid=[3]),
    csv("a line too long, with fields", f"customer_user_id,n\nu1,{'a,' * 700_000}\nu2,n\n", "u2", invalid=[2]),
    csv("a line too long, within quotes", f'customer_user_id,n\nu1,"a\n{ENDLESS}\n"\nu2,n\n', "u2", invalid=[2]),
    csv("a line too long, its quote open", f'customer_user_id,n\nu1,"{ENDLESS}\nu2,n\n', refused="line 2"),
]
QUOTES = [
    csv("quoted ids", 'id\n"a,b"\n"say ""hi"""\n', "a,b", 'say "hi"'),
    csv("text of several lines", 'n,customer_user_id\n"a\nb",u1\nn,u2\n', "u1", "u2"),
    csv("a quote amid an id", 'id\nu"1\n', 'u"1'),
    csv("single quotes", "id\n'u1'\n", "'u1'"),
    csv("text after a closing quote", 'id\nu1\n"u2"x\nu3\n', "u1", "u3", invalid=[3]),
    csv("a space after a closing quote", 'n,customer_user_id\n"n" ,u1\nn,u2\n', "u2", invalid=[2]),
    csv("text after a closing quote, and an open one", 'id\nu1\n"u2"x"\nu3\n', refused="line 3"),
    csv("an open quote that takes all", 'id\nu1\n"u2\nu3\nu4\n', refused="line 3"),
    csv("an open quote in another column", 'customer_user_id,n\nu1,n\nu2,"n\nu3,n\n', refused="line 3"),
    csv("an open quote that another one closes", 'id\nu1\n"u2\nu3"\nu4\n', "u1", "u4", invalid=[3]),
    csv("an end of line in an id", 'n,customer_user_id\nn,"u\r\n1"\nn,u2\n', "u2", invalid=[2]),
    csv(
        "a row too long, its text of two lines",
        'customer_user_id,n\nu1,"a\nb",n\nu2,n\n',
        refused="continues to line 3",
    ),
    csv("a row that takes the next", 'customer_user_id,n\n"u1,n\nu2,n"\nu3,n\n', refused="continues to line 3"),
    csv("a header in quotes", '"n,customer_user_id"\n"n,u1"\n', refused="quotes around its whole first line"),
    csv(
        "a header in quotes, TSV",
        '"n\tcustomer_user_id"\n',
        name="people.tsv",
        refused="quotes around its whole first line",
    ),
    csv(
        "a header in quotes, another column",
        '"mail,id"\n"m1,1"\n',
        column="mail",
        refused="quotes around its whole first line",
    ),
    csv("an open quote that another row closes", 'customer_user_id,n\nu1,"n\nu2,"n"\nu3,n\n', refused="line 2"),
    csv("an open quote on the last line", 'id\nu1\n"u2', refused="line 3"),
    csv("a broken header", '"customer_user_id"x,n\nu1,n\n', refused="begins with an invalid row"),
]
COLUMNS = [
    csv("semicolons", "customer_user_id;n\nu1;n\n", refused="commas"),
    csv("tabs", "customer_user_id\tn\nu1\tn\n", refused="--format tsv"),
    csv("semicolons, another column", "mail;n\nm1;n\n", column="mail", refused="commas"),
    csv("bars", "customer_user_id|n\nu1|n\n", refused="commas"),
    csv("two columns of the name", "customer_user_id,customer_user_id\nu1,u2\n", refused="several columns"),
    csv("no column of the name", "name,mail\nn,m\n", refused="--column"),
    csv("a name in capitals", "CUSTOMER_USER_ID\nu1\n", refused="begins with"),
    csv("the other kind of id", "profile_id\nu1\n", refused="--by says"),
    csv("a space before the name", " customer_user_id\nu1\n", refused="begins with"),
    csv("a comma after the name", "customer_user_id,\nu1,\n", "u1"),
    csv("a row too short and one too long", "customer_user_id,n\nu1\nu2,n,n\nu3,n\n", "u3", invalid=[2, 3]),
    csv("no header", "u1\nu2\n", "u1", "u2"),
    csv("another column", "customer_user_id,mail\nu1,m1\n", "m1", column="mail"),
    csv("JSON lines under another name", '{"customer_user_id": "u1"}\n', refused="--format jsonl"),
    csv("a brace, said to be CSV", "{u1}\n", "{u1}", format=Format.CSV),
]
IDS = [
    csv("leading zeros, letters and numbers", "id\n007\n7\nU\nu\n1e5\n", "007", "7", "U", "u", "1e5"),
    csv("a formula", "id\n=1+1\n+49 30\n", "=1+1", "+49 30"),
    csv("no id", 'customer_user_id,n\n,n\n"",n\nu1,n\n', "u1", invalid=[2, 3]),
    csv("white space at an end", "id\n u1\nu2 \nu3\u00a0\n\u3000u4\nu5\n", "u5", invalid=[2, 3, 4, 5]),
    csv("white space within", "id\nu 1\nDoe, Ann\n".replace("Doe, Ann", '"Doe, Ann"'), "u 1", "Doe, Ann"),
    csv("a control character", "id\nu\t1\nu\x1b2\nu3\n", "u3", invalid=[2, 3]),
    csv("repeated", "id\nu1\nu2\nu1\nu1\n", "u1", "u2", repeated=[4, 5]),
    csv("repeated, and invalid each time", "id\n u1\nu2\n u1\n", "u2", invalid=[2, 4]),
    csv("1.23E+15", "id\nu1\n1.23E+15\n", refused="line 3"),
    csv("1,23e+15", 'id\n"1,23e+15"\n', refused="line 2"),
    csv("1.23E+15, accepted", "id\nu1\n1.23E+15\n", "u1", invalid=[3], accept_damaged=True),
    csv("a plus that is none of that", "id\nannE+1@b.example\n1.23E-15\n", "annE+1@b.example", "1.23E-15"),
    csv("no UUID", f"id\n{PROFILE}\nu1\n{PROFILE[:-1]}\n", PROFILE, by="profile_id", invalid=[3, 4]),
    csv("a UUID in capitals", f"{PROFILE}\n{PROFILE.upper()}\n", PROFILE, by="profile_id", repeated=[2]),
    csv("a UUID in braces", f"{PROFILE}\n{{{PROFILE}}}\n", PROFILE, by="profile_id", invalid=[2]),
]
TSV_AND_LINES = [
    csv("TSV", "n\tcustomer_user_id\na,b\tu1\n", "u1", name="people.tsv"),
    csv("TSV with quotes", 'customer_user_id\tn\n"u\t1"\tn\nu2\t"n"\n', "u2", name="people.tsv", invalid=[2]),
    csv("CSV that is named TSV", "customer_user_id,n\nu1,n\n", name="people.tsv", refused="--format csv"),
    csv("TSV under another name", "customer_user_id\tn\nu1\tn\n", "u1", name="people", format=Format.TSV),
    csv("one ID per line", '"u1"\na,b\n\nu2\r\n', '"u1"', "a,b", "u2", name="people.ids"),
    csv("one ID per line, with a name", "customer_user_id\nu1\n", "u1", name="people.ids"),
    csv("one ID per line, of the other kind", "profile_id\nu1\n", name="people.ids", refused="--by says"),
    csv("lines that can't be read", b"u1\nu\xff\nu\0003\nu4\n", "u1", "u4", name="people.ids", invalid=[2, 3]),
    csv("one line too long", f"u1\n{ENDLESS}\nu3\n", "u1", "u3", name="people.ids", invalid=[2]),
    csv("the first line too long", f"{ENDLESS}\nid\nu3\n", name="people.ids", refused="line 2: the header"),
    csv("very many blank lines", "\n" * 2_000_000 + "u1\nu2\n", "u1", "u2", name="people.ids"),
    csv("no lines", "\n\n", name="people.ids", refused="contains no IDs"),
]
PACKINGS = [
    csv("gzip", PACKED, "u1", "u2", name="people.csv.gz"),
    csv("gzip under another name", PACKED, "u1", "u2"),
    csv("a name that says gzip", TWO, "u1", "u2", name="people.csv.gz"),
    csv("two members", gzip.compress(b"id\nu1\n") + gzip.compress(b"u2\n"), "u1", "u2"),
    csv("gzip cut off", gzip.compress(b"id\n" + b"".join(b"u%d\n" % n for n in range(999)))[:-9], refused="truncated"),
    csv("gzip cut off in its header", PACKED[:5], refused="truncated"),
    csv("gzip with a wrong checksum", PACKED[:-8] + bytes(8), refused="damaged"),
    csv("gzip with something behind it", PACKED + b"more", refused="damaged"),
    csv("gzip within gzip", gzip.compress(PACKED), refused="twice"),
    csv("a great line in gzip", gzip.compress(f"id\nu1\n{'x' * 30_000_000}\nu3\n".encode()), "u1", "u3", invalid=[3]),
    csv("many blank lines in gzip", gzip.compress(b"id\nu1\n" + b"\n" * 300_000 + b"u2\n"), "u1", "u2"),
    csv("JSON lines in gzip", gzip.compress(of_id("u1").encode()), "u1", name="people.jsonl.gz"),
    csv("xz", lzma.compress(TWO.encode()), refused="xz"),
    csv("bzip2", b"BZh91AY&SY", refused="bzip2"),
    csv("zstd", b"\x28\xb5\x2f\xfd...", refused="zstd"),
    csv("an id like the first bytes of bzip2", "BZh9\nu2\n", "BZh9", "u2"),
    csv("an id like the first bytes of Parquet", "PAR1\nu2\n", "PAR1", "u2"),
]
JSON_LINES = [
    jsonl("objects", of_id("u1", "007"), "u1", "007"),
    jsonl("texts", '"u1"\n"u2"\n', "u1", "u2"),
    jsonl("objects, texts and numbers", of_id("u1", 7) + '"u2"\n8\n', "u1", "7", "u2", "8"),
    jsonl("numbers", of_id(1, 2**70), "1", str(2**70)),
    jsonl("a great number", f"{'9' * 5000}\n1\n", "1", invalid=[1]),
    jsonl("floating-point numbers", of_id(1.5, 1.0) + "1.23E+15\nNaN\n1e999\n3\n", "3", invalid=[1, 2, 3, 4, 5]),
    jsonl("zero", of_id(0, 7), "0", "7"),
    jsonl("minus zero among whole numbers", of_id(7) + '{"customer_user_id": -0}\n', "7", invalid=[2]),
    jsonl("minus zero", of_id(0, 7) + '{"customer_user_id": -0}\n-0\n1e3\n', "0", "7", invalid=[3, 4, 5]),
    jsonl("1.23E+15 as text", of_id("u1", "1.23E+15"), refused="line 2"),
    jsonl("1.23E+15 as text, accepted", of_id("u1", "1.23E+15"), "u1", invalid=[2], accept_damaged=True),
    jsonl("null, true, a list and an object", of_id(None, True, ["u"], {"a": 1}, "u5"), "u5", invalid=[1, 2, 3, 4]),
    jsonl("null, true, lists", '"u1"\nnull\ntrue\n["u2"]\n[["u3"]]\n', "u1", invalid=[2, 3, 4, 5]),
    jsonl("empty text", of_id("", "u2") + '""\n', "u2", invalid=[1, 3]),
    jsonl("no JSON", of_id("u1") + "{'customer_user_id': 'u2'}\nu3\n007\n", "u1", invalid=[2, 3, 4]),
    jsonl("two objects on a line", of_id("u1") + of_id("u2", "u3").replace("\n", "") + "\n", "u1", invalid=[2]),
    jsonl("two texts on a line", '"u1"\n"u2", "u3"\n"u4"\n', "u1", "u4", invalid=[2]),
    jsonl("an object on two lines", of_id("u1") + '{"customer_user_id":\n"u2"}\n', "u1", invalid=[2, 3]),
    jsonl("lines that would be JSON together", '"u1"\n[[1\n2]]\n"u4"],["u5"\n', "u1", invalid=[2, 3, 4]),
    jsonl(
        "lines that would be objects together",
        of_id("u1")
        + '{"customer_user_id": "u2", "t": [[1\n2]]}\n{"customer_user_id": "u3"}],[{"customer_user_id": "u4"}\n',
        "u1",
        invalid=[2, 3, 4],
    ),
    jsonl("a text on two lines", '"u1"\n"u2\nu3"\n', "u1", invalid=[2, 3]),
    jsonl("a key twice", of_id("u1") + '{"customer_user_id": "u2", "customer_user_id": "u3"}\n', "u1", invalid=[2]),
    jsonl(
        "a key twice, once in another spelling",
        of_id("u1") + r'{"customer\u005fuser_id": "u2", "customer_user_id": "u3"}' + "\n",
        "u1",
        invalid=[2],
    ),
    jsonl("a key twice and then never", '{"id": 1, "id": 2}\n{"n": 3}\n{"id": 4}\n', "4", column="id", invalid=[1, 2]),
    jsonl("the key only within", '{"a": {"customer_user_id": "u1"}}\n' + of_id("u2"), "u2", invalid=[1]),
    jsonl("the key within and without", '{"a": {"customer_user_id": "u1"}, "customer_user_id": "u2"}\n', "u2"),
    jsonl("no such key", '{"user": "u1"}\n', refused="--column"),
    jsonl("another key", '{"user": "u1", "customer_user_id": "u2"}\n', "u1", column="user"),
    jsonl("deep nesting", of_id("u1") + "[" * 100_000 + "\n" + '{"a":' * 100_000 + "\n", "u1", invalid=[2, 3]),
    jsonl("one list", '[{"customer_user_id": "u1"}]\n', refused="jq"),
    jsonl("an object in many lines", json.dumps({"customer_user_id": "u1"}, indent=1), refused="isn't JSON"),
    jsonl("lone surrogates", of_id("\ud800", "u2"), "u2", invalid=[1]),
    jsonl("NUL and a line end in an id", of_id("u\0", "u\n1", "u3"), "u3", invalid=[1, 2]),
    jsonl("Latin-1", b'"M\xfcller"\n"u2"\n', "u2", invalid=[1]),
    jsonl("a mark, CRLF and blank lines", b'\xef\xbb\xbf\r\n"u1"\r\n\r\n"u2"', "u1", "u2"),
    jsonl("a line too long", f'"u1"\n"{ENDLESS}"\n"u3"\n', "u1", "u3", invalid=[2]),
    jsonl("repeated as text and number", of_id("7", 7, "u1", "u1"), "7", "u1", repeated=[2, 4]),
    jsonl("blank", "\n\n", refused="contains no IDs"),
    jsonl(
        "profile ids", '{"profile_id": "u1"}\n{"profile_id": "' + PROFILE + '"}', PROFILE, by="profile_id", invalid=[1]
    ),
]
PARQUET = [
    table("text", array(["u1", "007", "u1"]), "u1", "007", repeated=[3]),
    table("whole numbers", array([1, 2**62]), "1", str(2**62)),
    table("whole numbers and nothing", array([1, None, 3], pyarrow.int64()), "1", "3", invalid=[2]),
    table("floating-point numbers", array([1.0, 2.5]), refused="floating-point"),
    table("true and false", array([True]), refused="true or false"),
    table("bytes", array([b"u1", b"\xff"]), refused="bytes"),
    table("text that is no UTF-8", array([b"u1", b"\xff"]).view(pyarrow.string()), "u1", invalid=[2]),
    table("a dictionary", array(["u1", "u2", "u1"]).dictionary_encode(), "u1", "u2", repeated=[3]),
    table("long texts", array(["u1"], pyarrow.large_string()), "u1"),
    table("decimals", array([Decimal(7)], pyarrow.decimal128(20, 0)), "7"),
    table("decimals with a fraction", array([Decimal("7.00")], pyarrow.decimal128(20, 2)), refused="fraction"),
    table("lists", array([["u1"]]), refused="neither text"),
    table("objects", array([{"customer_user_id": "u1"}]), refused="neither text"),
    table("times", array([1], pyarrow.timestamp("ns")), refused="row 1"),
    table("nothing", array([None, None]), refused="no ID"),
    table("no rows", array([], pyarrow.string()), refused="contains no IDs"),
    table("empty texts and white space", array(["", " u", "u3"]), "u3", invalid=[1, 2]),
    table("1.23E+15", array(["u1", "1.23E+15"]), refused="row 2"),
    table("no such column", array(["u1"]), key="user", refused="no column customer_user_id, but"),
    table("another column", array(["u1"]), "u1", key="a.b", column="a.b"),
    table("under another name", array(["u1"]), "u1", name="people.csv"),
    table("said to be something else", array(["u1"]), format=Format.CSV, refused="--format says csv"),
    table("UUIDs", array([UUID(PROFILE).bytes], pyarrow.uuid()), PROFILE, key="profile_id", by="profile_id"),
    Given(
        what="two columns of the name",
        name="people.parquet",
        content=written(pyarrow.table([array(["u1"]), array(["u2"])], names=["customer_user_id"] * 2)),
        refused="several columns",
    ),
    Given(
        what="several row groups",
        name="people.parquet",
        content=written(pyarrow.table({"customer_user_id": ["u1", "u2", "u3", "u1"]}), row_group_size=2),
        send=["u1", "u2", "u3"],
        repeated=[4],
    ),
    csv("Parquet cut off", PEOPLE[:-9], name="people.parquet", refused="isn't a readable Parquet file"),
    csv("Parquet cut off, under another name", PEOPLE[:-9], refused="isn't a readable Parquet file"),
    csv("Parquet with a page overwritten", PEOPLE[:4] + bytes(30) + PEOPLE[34:], refused="is damaged"),
    csv("Parquet in gzip", gzip.compress(PEOPLE), name="people.parquet.gz", refused="decompress it first"),
    csv("CSV that is named Parquet", TWO, name="people.parquet", refused="isn't Parquet"),
    csv("CSV that is said to be Parquet", TWO, format=Format.PARQUET, refused="no Parquet"),
]
TABLE = [
    *(ENCODINGS + LINES + QUOTES + COLUMNS + IDS),
    *(TSV_AND_LINES + PACKINGS + JSON_LINES + PARQUET),
]


@pytest.fixture(params=TABLE, ids=lambda given: f"{given.name}: {given.what}")
def given(request: pytest.FixtureRequest) -> Given:
    found: Given = request.param
    return found


def opened(given: Given, path: Path) -> Any:
    path.write_bytes(given.content)
    return open_id_input(
        path,
        by=given.by,
        column=given.column,
        format=given.format,
        skip_damaged=given.accept_damaged,
        allow_invisible=given.allow_invisible,
    )


def test_what_is_sent_what_is_not_and_what_is_refused(given: Given, tmp_path: Path) -> None:
    with opened(given, tmp_path / given.name) as ids:
        if given.refused:
            with pytest.raises(InputError) as refusal:
                ids.check()
            assert given.refused in str(refusal.value)
            return
        checked = ids.check()
        rows = list(ids.iter_rows())
        assert [row.id for row in rows if row.outcome is None] == list(given.send)
        assert [row.line for row in rows if row.outcome is Outcome.INVALID] == list(given.invalid)
        assert [row.line for row in rows if row.outcome is Outcome.DUPLICATE] == list(given.repeated)
        assert (checked.row_count, checked.profile_count) == (len(rows), len(given.send))
        assert (checked.invalid_count, checked.duplicate_count) == (len(given.invalid), len(given.repeated))
        assert all(row.reason for row in rows if row.outcome is not None)
        agree(ids, rows)


def agree(ids: IdInput, rows: Sequence[Row]) -> None:
    """Compare the other ways to read an input with the first one, row by row."""
    names = [row.id for row in rows]
    assert list(ids.iter_raw_ids()) == list(ids.iter_items()) == [row.id for row in ids.iter_raw_rows()] == names
    assert [item.item if isinstance(item, SkippedItem) else item for item in ids.iter_marked_items()] == names
    decided = [item.outcome if isinstance(item, SkippedItem) else None for item in ids.iter_marked_items()]
    assert decided == [row.outcome for row in rows]
    assert [ids.find_line(position) for position in range(len(rows) + 1)] == [*(row.line for row in rows), None]
    for row, written in zip(rows, ids.iter_raw_rows(), strict=True):
        assert ids.explain_invalid(written) == (row.reason if row.outcome is Outcome.INVALID else "")
        assert row.fields == written.fields
        assert (
            not row.fields or row.fields[ids.read_schema().id_index] in (row.id, "") or row.outcome is Outcome.INVALID
        )


def test_the_command_says_it_in_a_sentence_without_the_ids(given: Given, tmp_path: Path, say: Say) -> None:
    path = tmp_path / given.name
    path.write_bytes(given.content)
    options = [
        *(["--column", given.column] if given.column else []),
        *(["--format", given.format] if given.format else []),
        *(["--skip-damaged"] if given.accept_damaged else []),
        *(["--allow-invisible"] if given.allow_invisible else []),
    ]
    status, out, err = say("plan", path, "--by", given.by, *options)
    assert status == (2 if given.refused else 0)
    if given.refused:
        assert err.startswith("adapty-async: ")
        assert len(err.splitlines()) == 1
    else:
        assert f"{'profiles':<20}{len(given.send):>12}" in out


def test_an_id_that_goes_on_below_names_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('customer_user_id,n\n\n"u\n\n1","a\nb"\nu2,n\n')
    with open_id_input(path, by="customer_user_id") as ids:
        first, second = ids.iter_raw_rows()
    assert (first.line, second.line) == (3, 7)
    assert first.reason.startswith("the ID continues to line 5, as if a quote were missing")


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 60
