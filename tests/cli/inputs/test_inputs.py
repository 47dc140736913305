import csv
import io
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapty_async.bulk import Outcome
from adapty_async.bulk.operations import IdType
from adapty_async.cli.inputs.id_input import IdInput, InputSummary, open_id_input
from adapty_async.cli.inputs.id_validation import explain_invalid_id, find_invalid_ids
from adapty_async.cli.inputs.input_types import InputError, Row
from adapty_async.resources.profiles import build_delete_request

UUID = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "ids.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(
    path: Path, by: IdType = "customer_user_id", column: str | None = None, *, allow_invisible: bool = False
) -> list[Row]:
    with open_id_input(path, by=by, column=column, allow_invisible=allow_invisible) as ids:
        return list(ids.iter_rows())


def check(path: Path, by: IdType = "customer_user_id") -> InputSummary:
    with open_id_input(path, by=by) as ids:
        return ids.check()


def ids_in(folder: Path, content: str | bytes, by: IdType = "customer_user_id", column: str | None = None) -> list[str]:
    return [row.id for row in read(write(folder, content), by, column)]


def lines_in(folder: Path, content: str) -> list[tuple[int, str]]:
    return [(row.line, row.id) for row in read(write(folder, content))]


def refused(folder: Path, content: str | bytes, by: IdType = "customer_user_id", column: str | None = None) -> str:
    with pytest.raises(InputError) as refusal:
        read(write(folder, content), by, column)
    return str(refusal.value)


# The column


@pytest.mark.parametrize("header", ["customer_user_id", "id"])
def test_a_single_column_may_have_its_name_above_it(tmp_path: Path, header: str) -> None:
    assert ids_in(tmp_path, f"{header}\nu1\nu2\n") == ["u1", "u2"]


def test_a_single_column_without_a_name_begins_with_the_first_line(tmp_path: Path) -> None:
    assert lines_in(tmp_path, "u1\nu2") == [(1, "u1"), (2, "u2")]


def test_a_single_column_may_have_the_name_that_column_gives(tmp_path: Path) -> None:
    assert ids_in(tmp_path, "member\nu1\n", column="member") == ["u1"]


def test_the_column_is_found_by_the_kind_of_id(tmp_path: Path) -> None:
    content = f"customer_user_id,profile_id\nu1,{UUID}\n"
    assert ids_in(tmp_path, content) == ["u1"]
    assert ids_in(tmp_path, content, by="profile_id") == [UUID]


def test_the_column_is_found_by_the_name_that_is_given(tmp_path: Path) -> None:
    assert ids_in(tmp_path, "customer_user_id,mail\nu1,a@b.example\n", column="mail") == ["a@b.example"]


@pytest.mark.parametrize("column", [None, "member"])
def test_a_column_that_is_not_there_is_not_guessed_and_those_that_are_there_are_named(
    tmp_path: Path, column: str | None
) -> None:
    sentence = refused(tmp_path, "id,e-mail,first name\n1,a@b.example,Ann\n", column=column)
    assert f"no column {column or 'customer_user_id'}" in sentence
    assert "'id', 'e-mail', 'first name'" in sentence
    assert "--column" in sentence


def test_a_first_row_that_names_people_is_not_shown(tmp_path: Path) -> None:
    sentence = refused(tmp_path, "4711,ann@example.com\n4712,bob@example.com\n")
    assert "column 1 (not shown" in sentence
    assert "column 2 (not shown" in sentence
    assert not {"4711", "ann"} & set(sentence.replace("@", " ").split())


def test_a_first_row_of_names_is_not_shown(tmp_path: Path) -> None:
    sentence = refused(tmp_path, "Ada Lovelace,ada@example.com\nAlan Turing,alan@example.com\n")
    assert "Ada" not in sentence
    assert "column 1 (not shown" in sentence


def test_where_no_temporary_file_can_be_made_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    pipe, end = os.pipe()
    os.close(end)
    with pytest.raises(InputError, match="can't be copied to a temporary file"):
        read(Path(f"/dev/fd/{pipe}"))
    os.close(pipe)


def test_a_single_column_of_another_name_than_the_given_one_is_refused(tmp_path: Path) -> None:
    assert "no column mail, but 'member'" in refused(tmp_path, "member\nu1\n", column="mail")


def test_two_columns_of_the_same_name_are_refused(tmp_path: Path) -> None:
    assert "several columns" in refused(tmp_path, "customer_user_id,customer_user_id\nu1,u2\n")


@pytest.mark.parametrize("header", ["profile_id", "ID", "Customer User ID", " customer_user_id", "profile-id"])
def test_a_single_column_that_is_named_like_another_kind_of_id_is_refused(tmp_path: Path, header: str) -> None:
    sentence = refused(tmp_path, f"{header}\nu1\n")
    assert repr(header) in sentence
    assert "--column" in sentence


@pytest.mark.parametrize(("separator", "advice"), [(";", "commas"), ("|", "commas"), ("\t", "--format tsv")])
def test_another_separator_than_the_comma_is_refused(tmp_path: Path, separator: str, advice: str) -> None:
    assert advice in refused(tmp_path, f"customer_user_id{separator}mail\nu1{separator}a@b.example\n")


# Valid IDs


def test_ids_stay_as_they_are_written(tmp_path: Path) -> None:
    content = '007\n0\n1e5\nUSER\nuser\n"a,b"\n"say ""hi"""\n12E5\nMüller\n'
    assert ids_in(tmp_path, content) == ["007", "0", "1e5", "USER", "user", "a,b", 'say "hi"', "12E5", "Müller"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_line_ends_are_no_part_of_an_id(tmp_path: Path, newline: str, mark: str) -> None:
    assert ids_in(tmp_path, mark + newline.join(["customer_user_id", "u1", "u2", ""])) == ["u1", "u2"]
    assert ids_in(tmp_path, mark + newline.join(["name,customer_user_id", "Ann,u1"])) == ["u1"]


def test_blank_lines_are_skipped_and_lines_are_counted(tmp_path: Path) -> None:
    assert lines_in(tmp_path, "\nid\n\nu1\n  \n\t\nu2\n\n") == [(4, "u1"), (7, "u2")]


def test_a_text_of_several_lines_in_another_column_is_one_row(tmp_path: Path) -> None:
    content = 'customer_user_id,note\nu1,"one\ntwo\nthree"\nu2,-\n'
    assert lines_in(tmp_path, content) == [(2, "u1"), (5, "u2")]


def test_a_repeated_id_is_a_duplicate_and_letters_have_their_case(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "u1\nU1\nu1\nu1\n"))
    assert [row.outcome for row in rows] == [None, None, Outcome.DUPLICATE, Outcome.DUPLICATE]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"u2", "1 field instead of 2"),
        (b"u2,x,y", "3 fields instead of 2"),
        (b"u2,a\0b", "a NUL"),
        (b"u\0,x", "a NUL"),
        (b"u2\xff,x", "aren't UTF-8"),
        (b"u2,M\xfcller", "aren't UTF-8"),
        (b",x", "no ID"),
        (b'"",x', "no ID"),
    ],
)
def test_a_row_that_cannot_be_read_is_invalid_with_its_line(tmp_path: Path, row: bytes, reason: str) -> None:
    rows = read(write(tmp_path, b"customer_user_id,note\nu1,x\n" + row + b"\nu3,x\n"))
    assert [(row.line, row.id, row.outcome) for row in rows] == [
        (2, "u1", None),
        (3, "", Outcome.INVALID),
        (4, "u3", None),
    ]
    assert reason in rows[1].reason


def test_rows_without_an_id_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    rows = read(write(tmp_path, 'id\n""\n""\n'))
    assert [row.outcome for row in rows] == [Outcome.INVALID, Outcome.INVALID]


@pytest.mark.parametrize("number", ["1.23E+15", "1,23E+15", "1E+05", "1.234e+15", "-4.5E+10"])
def test_ids_that_a_spreadsheet_has_shortened_are_refused_with_their_line(tmp_path: Path, number: str) -> None:
    sentence = refused(tmp_path, f'id\nu1\n"{number}"\n')
    assert "line 3" in sentence
    assert number not in sentence.replace("such as 1.23E+15", "")


@pytest.mark.parametrize(
    "content",
    [
        'id\nu1\n"u2\nu3\n',
        'id\nu1\n"u2"x,"\nu3\n',
        'customer_user_id,note\nu1,x\n"u2,x\nu3,x"\n',
        'id\nu1\n"u2' + "x" * 2_000_000 + "\nu3\n",
        'id\nu1\n"' + "x" * 200_000 + '\n"\nu3\n',
    ],
)
def test_a_quote_that_swallows_the_lines_below_refuses_the_file_with_its_line(tmp_path: Path, content: str) -> None:
    assert "line 3" in refused(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "word"),
    [("id\nu1\n".encode("utf-16"), "UTF-16"), (b"\xfe\xff\0i\0d", "UTF-16"), (b"PK\x03\x04....", "workbook")],
)
def test_other_formats_are_refused_by_their_name(tmp_path: Path, content: bytes, word: str) -> None:
    assert word in refused(tmp_path, content)


@pytest.mark.parametrize(
    "line",
    ['"u2"x', '"u2"x,"y"', "x" * 200_000, "x" * 2_000_000, '"' + "x" * 2_000_000 + '"', '"' + "x" * 200_000 + '"'],
)
def test_a_broken_line_whose_end_is_clear_is_invalid_and_those_below_are_read(tmp_path: Path, line: str) -> None:
    rows = read(write(tmp_path, f"id\nu1\n{line}\nu3\n"))
    assert [(row.line, row.id, row.outcome) for row in rows] == [
        (2, "u1", None),
        (3, "", Outcome.INVALID),
        (4, "u3", None),
    ]


# The whole file


def test_the_check_counts_rows_by_what_will_become_of_them(tmp_path: Path) -> None:
    checked = check(write(tmp_path, b"u1\nu2\nu1\n a\nb\xff\nu2\n"))
    assert (checked.row_count, checked.profile_count, checked.duplicate_count, checked.invalid_count) == (6, 2, 2, 2)
    assert [row.line for row in checked.first_invalid_rows] == [4, 5]
    assert "white space" in checked.first_invalid_rows[0].reason


def test_the_check_keeps_only_the_first_invalid_rows(tmp_path: Path) -> None:
    checked = check(write(tmp_path, "id\nu1\n" + "".join(f" {number}\n" for number in range(50))))
    assert checked.invalid_count == 50
    assert [row.line for row in checked.first_invalid_rows] == list(range(3, 13))


@pytest.mark.parametrize("content", ["", "\n\n", "customer_user_id\n", "\ufeff", "name,customer_user_id\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="no IDs"):
        check(write(tmp_path, content))


def test_a_file_without_any_id_of_that_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2, profile_id isn't a UUID"):
        check(write(tmp_path, "id\nu1\nu2\n"), by="profile_id")


def test_profile_ids_are_checked_as_such(tmp_path: Path) -> None:
    assert check(write(tmp_path, f"{UUID}\n"), by="profile_id").profile_count == 1


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read(tmp_path / name)


def test_a_file_that_cannot_be_read_to_its_end_is_refused() -> None:
    with Path("/proc/self/mem").open("rb") as file, pytest.raises(InputError, match="completely"):
        list(IdInput(file, "mem", by="customer_user_id").iter_rows())


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "u1\nu2\n")
    with open_id_input(path, by="customer_user_id") as ids:
        rows = ids.iter_rows()
        assert next(rows).id == "u1"
        with path.open("a") as file:
            file.write("u3\n")
        with pytest.raises(InputError, match="changed"):
            list(rows)


def test_a_file_can_be_read_twice_and_left_in_the_middle(tmp_path: Path) -> None:
    with open_id_input(write(tmp_path, "u1\nu2\nu1\n"), by="customer_user_id") as ids:
        left = ids.iter_rows()
        next(left)
        assert list(ids.iter_rows()) == list(ids.iter_rows())
    del left


def test_a_pipe_is_copied_to_a_nameless_file_of_its_owner_alone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"u1\nu2\n")
    os.close(writing)
    with open_id_input(Path(f"/dev/fd/{reading}"), by="customer_user_id") as ids:
        status = os.fstat(ids.file.fileno())
        assert (status.st_mode & 0o777, status.st_nlink) == (0o600, 0)
        assert [row.id for row in ids.iter_rows()] == [row.id for row in ids.iter_rows()] == ["u1", "u2"]
    os.close(reading)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    row = f"u,{'x' * 200}\n"
    few = peak_of(write(tmp_path, "customer_user_id,note\n" + row * 20_000))
    many = peak_of(write(tmp_path, "customer_user_id,note\n" + row * 60_000))
    assert many < few + 500_000


def peak_of(path: Path) -> int:
    tracemalloc.start()
    try:
        with open_id_input(path, by="customer_user_id") as ids:
            for _ in ids.iter_raw_rows():
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Any file

readable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)
an_id = readable.filter(lambda text: text and "\n" not in text and "+" not in text)


@settings(deadline=None)  # a disk may be slow
@given(rows=st.lists(st.tuples(readable, an_id)), newline=st.sampled_from(["\n", "\r\n"]), mark=st.booleans())
def test_whatever_a_csv_writer_wrote_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], newline: str, mark: bool
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=newline).writerows([("note", "customer_user_id"), *rows])
    content = text.getvalue().encode("utf-8-sig" if mark else "utf-8")
    found = read(write(tmp_path_factory.getbasetemp(), content), allow_invisible=True)
    assert [row.id for row in found] == [id_ for _, id_ in rows]
    sent = [row.id for row in found if row.outcome is None]
    assert sorted(sent) == sorted({id_ for _, id_ in rows if not explain_invalid_id(id_, "customer_user_id")})


@given(ids=st.lists(st.text(max_size=4)), by=st.sampled_from(["customer_user_id", "profile_id"]))
def test_many_ids_at_once_are_judged_as_the_library_judges_each(ids: list[str], by: IdType) -> None:
    ids = [*ids, UUID]
    for each in (ids, [id_ for id_ in ids if not library_refusal(id_, by)]):
        assert find_invalid_ids(each, by) == {
            index: reason for index, id_ in enumerate(each) if (reason := library_refusal(id_, by))
        }


def library_refusal(id_: str, by: IdType) -> str:
    try:
        if by == "profile_id":
            build_delete_request(profile_id=id_)
        else:
            build_delete_request(customer_user_id=id_)
    except ValueError as error:
        return str(error)
    return ""


@settings(deadline=None)  # a disk may be slow
@given(lines=st.lists(st.binary(max_size=12).filter(lambda line: not set(b'\r\n"+') & set(line))))
def test_no_row_of_any_bytes_is_dropped(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = write(tmp_path_factory.getbasetemp(), b"customer_user_id,note\n" + b"\n".join(lines))
    blank = sum(not line.decode("utf-8", "surrogateescape").strip() for line in lines)
    assert len(read(path, allow_invisible=True)) == len(lines) - blank


@settings(deadline=None)  # a disk may be slow
@given(content=st.binary(max_size=200))
def test_any_bytes_at_all_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), content)
    try:
        check(path)
    except InputError:
        return
    assert all(row.id or row.reason for row in read(path))
