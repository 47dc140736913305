"""Damaged bytes in Parquet: a checksum prevents wrong IDs, and a file without checksums is reported."""

import gzip
import importlib
import io
import os
import random
from pathlib import Path
from typing import Any

import pytest

from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.inputs.input_types import InputError
from tests.cli.served import AT_ONCE
from tests.cli.witness import Say, Witness, ids, ledger_of

pyarrow: Any = importlib.import_module("pyarrow")
parquet: Any = importlib.import_module("pyarrow.parquet")

BY = ("--by", "customer_user_id")
DELETE = ("delete", *AT_ONCE, *BY, "--yes")
PEOPLE = [f"user-{number}@example.com" for number in range(4)]
OTHERS = [f"other{number}@example.org" for number in range(4)]


def written(columns: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file, **{"write_page_checksum": True, **options})
    return file.getvalue()


BARE = {"use_dictionary": False, "compression": "none", "write_statistics": False, "store_schema": False}
FILES = {
    "as pyarrow writes it": written({"customer_user_id": PEOPLE}),
    "bare": written({"mail": ["x1", "x2"], "customer_user_id": ["u1", "u2"]}, **BARE),
    "two columns": written({"customer_user_id": PEOPLE[:2], "mail": OTHERS[:2]}, **BARE),
    "two parts": written({"mail": OTHERS[:2], "customer_user_id": PEOPLE[:2]}, row_group_size=1, **BARE),
    "numbers": written({"customer_user_id": [10**12, 10**12 + 7], "n": [5, 6]}, use_dictionary=False),
    "pages of version 2": written({"customer_user_id": PEOPLE}, data_page_version="2.0", compression="zstd"),
}


def sent(path: Path) -> list[str]:
    """Return the IDs that would be sent from a file; none if the file is refused."""
    with open_id_input(path, by="customer_user_id") as opened:
        try:
            opened.check()
            return [row.id for row in opened.iter_rows() if row.outcome is None]
        except InputError:
            return []


def damaged(content: bytes, seed: int) -> list[bytes]:
    """Return copies of a file, each with one damaged byte: two for each byte, one of them with a single flipped bit."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    made = []
    for place in range(len(content)):
        for difference in (1 << chance.randrange(8), chance.randrange(1, 256)):
            changed = bytearray(content)
            changed[place] ^= difference
            made.append(bytes(changed))
    return made


@pytest.mark.parametrize("name", FILES)
def test_no_damaged_byte_of_a_parquet_file_lets_anybody_else_be_sent(tmp_path: Path, name: str) -> None:
    path = tmp_path / "people.parquet"
    path.write_bytes(FILES[name])
    right = sent(path)
    assert right
    found: list[list[str]] = []
    for content in damaged(FILES[name], seed=len(name)):
        path.write_bytes(content)
        found.append(sent(path))
    assert all(each in (right, []) for each in found)
    assert found.count([]) > len(found) / 4


def varint(number: int) -> list[int]:
    return [number] if number < 0x80 else [number & 0x7F | 0x80, *varint(number >> 7)]


def test_a_place_that_is_another_columns_is_refused(tmp_path: Path) -> None:
    # The footer has no checksum and the pages of the other column are intact. Only the page offset is replaced.
    content = bytearray(FILES["bare"])
    metadata = parquet.ParquetFile(io.BytesIO(content)).metadata.row_group(0)
    place, others = (bytes([0x26, *varint(metadata.column(n).data_page_offset * 2)]) for n in (1, 0))
    content[content.rindex(place) : content.rindex(place) + len(place)] = others.ljust(len(place), b"\0")
    path = tmp_path / "people.parquet"
    path.write_bytes(content)
    with open_id_input(path, by="customer_user_id") as opened, pytest.raises(InputError, match="columns overlap"):
        opened.check()


def test_a_wrong_checksum_is_refused_with_a_sentence_and_nothing_is_sent(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    path = tmp_path / "people.parquet"
    content = written({"customer_user_id": ids(9)}, use_dictionary=False, compression="none")
    path.write_bytes(content.replace(ids(9)[3].encode(), b"x" + ids(9)[3].encode()[1:], 1))
    status, out, err = say(*DELETE, path)
    assert (status, out) == (2, "")
    assert err == (
        f"adapty-async: {path} can't be read completely (a checksum is wrong): it is truncated or damaged: "
        "fetch it again\n"
    )
    assert witness.stats.requests == 0
    assert not ledger_of(path).exists()
    assert say("delete", *AT_ONCE, *BY, "--yes", write_all(tmp_path), "--exclude", path)[0] == 2
    assert witness.stats.requests == 0


def write_all(folder: Path) -> Path:
    path = folder / "all.csv"
    path.write_text("\n".join(["customer_user_id", *ids(9)]))
    return path


def test_a_file_that_is_damaged_after_it_was_checked_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    path.write_bytes(FILES["two columns"])
    status = path.stat()
    with open_id_input(path, by="customer_user_id") as opened:
        opened.check()
        path.write_bytes(FILES["two columns"].replace(b"user-1@", b"user-9@", 1))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # a disk may be slow
        with pytest.raises(InputError, match="a checksum is wrong"):
            list(opened.iter_items())


@pytest.mark.parametrize(("options", "is_said"), [({}, False), ({"write_page_checksum": False}, True)])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_where_there_are_no_checksums_it_is_said(
    tmp_path: Path, say: Say, options: dict[str, Any], *, is_said: bool, use_dictionary: bool
) -> None:
    path = tmp_path / "people.parquet"
    path.write_bytes(written({"customer_user_id": PEOPLE}, use_dictionary=use_dictionary, row_group_size=2, **options))
    status, _, err = say("plan", path, *BY)
    assert status == 0
    assert err.count("its pages have no checksums") == is_said


def test_no_damaged_byte_of_a_gzip_file_lets_anybody_else_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "people.csv.gz"
    text = "\n".join(["customer_user_id", *PEOPLE])
    half = len(text) // 2
    for content in (
        gzip.compress(text.encode()),
        b"".join(gzip.compress(part.encode()) for part in (text[:half], text[half:])),
    ):
        path.write_bytes(content)
        assert sent(path) == PEOPLE
        for changed in damaged(content, seed=1):
            path.write_bytes(changed)
            assert sent(path) in (PEOPLE, [])
        for length in set(range(2, len(content))) - {len(gzip.compress(text[:half].encode()))}:
            path.write_bytes(content[:length])
            with open_id_input(path, by="customer_user_id") as opened, pytest.raises(InputError):
                opened.check()
