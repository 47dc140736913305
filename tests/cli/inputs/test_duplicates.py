"""Duplicates are found among any number of IDs, by comparing the IDs themselves, in constant memory."""

import io
import random
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.cli.exit_status import ExitStatus
from adapty_async.cli.inputs.duplicates import DuplicateFinder, PositionSet, find_duplicates
from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.inputs.input_source import copy_to_temp_file
from adapty_async.cli.inputs.input_types import InputError
from tests.full_disk import full_disk


def candidates_of(names: Sequence[str], hash_of: Callable[[str], int] = hash, run: int = 7) -> list[int]:
    with DuplicateFinder(hash_of, run) as sieve:
        for start in range(0, len(names), 3):
            part = names[start : start + 3]
            sieve.add(range(start, start + len(part)), part)
        return sieve.find_candidates().list_range(0, len(names))


def repeated_of(names: Sequence[str], candidates: Sequence[int]) -> list[int]:
    batches = [[(position, names[position], "")] for position in candidates]
    return find_duplicates(len(candidates), batches).positions.list_range(0, len(names))


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=60), st.integers(1, 9))
def test_candidates_are_all_ids_that_stand_there_twice_whichever_run_they_are_in(names: list[str], run: int) -> None:
    expected = [position for position, name in enumerate(names) if names.count(name) > 1]
    assert candidates_of(names, run=run) == expected


@given(st.lists(st.sampled_from(["a", "b", "\ud800", "A", "é"])))
def test_of_the_candidates_the_first_of_each_id_is_no_repetition(names: list[str]) -> None:
    expected = [position for position, name in enumerate(names) if name in names[:position]]
    assert repeated_of(names, range(len(names))) == expected


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y", None])), max_size=20))
def test_what_stands_beside_an_id_is_compared_with_what_stood_beside_it_first(
    rows: list[tuple[str, str | None]],
) -> None:
    found = find_duplicates(len(rows), [[(position, *row) for position, row in enumerate(rows)]])
    firsts = [next(place for place, row in enumerate(rows) if row[0] == name) for name, _ in rows]
    same = [first != place and rows[first] == rows[place] for place, first in enumerate(firsts)]
    others = [place for place, first in enumerate(firsts) if rows[first] != rows[place]]
    assert found.positions.list_range(0, 20) == [place for place, row in enumerate(rows) if same[place] and row[1]]
    assert found.conflict == ((firsts[others[0]], others[0]) if others else None)


@pytest.mark.parametrize("hash_of", [lambda _: 7, lambda _: -(2**63), lambda _: 2**63 - 1, len])
def test_ids_whose_hashes_are_the_same_are_told_apart_by_themselves(hash_of: Callable[[str], int]) -> None:
    names = [f"{number % 50:02}" for number in range(60)]
    candidates = candidates_of(names, hash_of)
    assert candidates == list(range(60))
    assert repeated_of(names, candidates) == list(range(50, 60))


def test_positions_that_were_left_out_are_no_candidates() -> None:
    with DuplicateFinder(run_size=2) as sieve:
        sieve.add([1, 5, 9, 400], ["a", "b", "a", "b"])
        assert sieve.find_candidates().list_range(0, 500) == [1, 5, 9, 400]


def test_positions_are_counted_once() -> None:
    positions = PositionSet()
    for position in (0, 7, 8, 1000, 7):
        positions.add(position)
    assert positions.count == 4
    assert positions.list_range(1, 1000) == [7, 8]
    assert positions.list_range(1001, 5000) == []


def test_memory_is_that_of_one_run_however_many_there_are() -> None:
    assert peak_of(40_000) < peak_of(10_000) + 100_000


def peak_of(count: int) -> int:
    numbers = random.Random(0)  # noqa: S311 - no secret
    tracemalloc.start()
    try:
        with DuplicateFinder(run_size=2000) as sieve:
            for position in range(0, count, 500):
                sieve.add(range(position, position + 500), [str(numbers.random()) for _ in range(500)])
            assert sieve.find_candidates().count == 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_where_no_temporary_file_can_be_made_for_many_rows_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with DuplicateFinder(run_size=2) as sieve, pytest.raises(InputError, match="TMPDIR"):
        sieve.add(range(3), ["a", "b", "c"])


def test_a_short_list_without_repetitions_needs_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    path = tmp_path / "people.csv"
    path.write_text("u1\nu2\n")
    with open_id_input(path, by="customer_user_id") as ids:
        assert ids.check().profile_count == 2


def sift() -> None:
    with DuplicateFinder(run_size=4) as sieve:
        for position in range(0, 100, 4):
            sieve.add(range(position, position + 4), [str(number) for number in range(position, position + 4)])


def compare() -> None:
    find_duplicates(100, [[(position, str(position), None) for position in range(100)]])


def copy() -> None:
    with copy_to_temp_file(io.BytesIO(bytes(1000)), "standard input"):
        pass


@pytest.mark.parametrize("work", [sift, compare, copy])
@pytest.mark.parametrize("size", [0, 60, 500])
def test_a_full_disk_is_said_with_the_exit_status_of_one(work: Callable[[], None], size: int) -> None:
    with full_disk(size), pytest.raises(InputError, match="TMPDIR") as caught:
        work()
    assert caught.value.status is ExitStatus.LEDGER
