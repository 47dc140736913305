"""An exclude list that may miss IDs is refused, because those profiles would be deleted."""

import shlex
import tracemalloc
from pathlib import Path

import pytest

from adapty_async.cli.inputs.exclude_lists import read_exclude_lists
from adapty_async.cli.inputs.id_canonicalization import canonicalize_id
from adapty_async.cli.inputs.id_input import open_id_input
from adapty_async.cli.options import Allowances
from adapty_async.ledger import LedgerReader
from tests.cli.served import AT_ONCE
from tests.cli.witness import PEOPLE, Say, Witness, ids, ledger_of

BY = ("--by", "customer_user_id")
DELETE = ("delete", *AT_ONCE, *BY, "--yes", "--max-absent", "100%")
ALLOW = "--allow-unmatched-exclude"


def write(folder: Path, name: str, *rows: str) -> Path:
    path = folder / name
    path.write_text("\n".join([*rows, ""]), encoding="utf-8")
    return path


def input_of(folder: Path, *people: str) -> Path:
    return write(folder, "input.csv", "name,customer_user_id", *(f"n,{id_}" for id_ in people))


def refused(say: Say, witness: Witness, *arguments: object) -> str:
    status, out, err = say(*arguments)
    assert (status, out) == (2, "")
    assert witness.stats.requests == 0
    assert err.count("\n") == len(err.splitlines())
    return err.splitlines()[-1]


# Regression: profiles under legal hold were deleted


def test_the_hold_of_a_spreadsheet_holds(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held = write(tmp_path, "hold.csv", "E-Mail;Grund", *(f"{id_};Gericht" for id_ in ids(2)))
    assert "looks like a table with columns separated by ';'" in refused(
        say, witness, *DELETE, people, "--exclude", held
    )
    assert "';'" in refused(say, witness, *DELETE, people, "--exclude", held, ALLOW)
    assert not ledger_of(people).exists()


def test_an_id_in_capitals_holds(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held = write(tmp_path, "hold.csv", ids(1)[0].upper(), ids(2)[1])
    sentence = refused(say, witness, *DELETE, people, "--exclude", held)
    assert sentence == (
        f"adapty-async: --exclude: {held}, line 1: it differs from the ID on line 2 of {people} only by case, white "
        f"space, encoding, look-alike letters or the like: write it as in that file; if they are two IDs, add {ALLOW}"
    )
    assert say(*DELETE, people, "--exclude", held, ALLOW)[0] == 0
    assert ids(1)[0] in witness.log
    assert ids(2)[1] not in witness.log


# A list without any ID of the input


@pytest.mark.parametrize("command", ["plan", "delete", "update", "create"])
@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)])
def test_a_list_of_nobody_refuses_every_command(
    witness: Witness, people: Path, tmp_path: Path, say: Say, command: str, ledger: tuple[str, ...]
) -> None:
    held = write(tmp_path, "hold.csv", "somebody else", "another")
    options = [] if command == "plan" else ["--yes", *ledger, *AT_ONCE]
    options += {"update": ["--attributes", "none", "--set", "custom.a=b"], "create": ["--attributes", "none"]}.get(
        command, []
    )
    sentence = refused(say, witness, command, people, *BY, *options, "--exclude", held)
    assert sentence == (
        f"adapty-async: --exclude: none of the 2 IDs in {held} is in {people}: check that they have the same type "
        f"and spelling; if nothing is to be excluded, add {ALLOW}"
    )
    assert say(command, people, *BY, *options, "--exclude", held, ALLOW)[0] == 0


def test_each_list_must_hold_somebody(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    right, wrong = write(tmp_path, "right.csv", *ids(2)), write(tmp_path, "wrong.csv", "somebody else")
    sentence = refused(say, witness, *DELETE, people, "--exclude", right, "--exclude", wrong)
    assert str(wrong) in sentence
    assert str(right) not in sentence
    again = write(tmp_path, "again.csv", ids(1)[0])  # an ID on both lists counts for this one
    assert say(*DELETE, people, "--exclude", right, "--exclude", again)[0] == 0
    assert set(witness.log) == set(ids(PEOPLE)) - set(ids(2))


def test_the_command_that_is_planned_says_what_is_allowed(
    witness: Witness, people: Path, tmp_path: Path, say: Say
) -> None:
    held = write(tmp_path, "hold.csv", "somebody else")
    status, out, _ = say("plan", people, *BY, "--exclude", held, ALLOW)
    assert status == 0
    assert f"--exclude {held} {ALLOW}" in out


@pytest.mark.parametrize("rows", [("customer_user_id",), ("",), ()])
@pytest.mark.parametrize("name", ["hold.csv", "hold.ids", "hold.jsonl"])
def test_an_empty_list_is_refused(
    witness: Witness, people: Path, tmp_path: Path, say: Say, name: str, rows: tuple[str, ...]
) -> None:
    held = write(tmp_path, name, *(() if name == "hold.jsonl" else rows))  # JSON lines have no header
    assert refused(say, witness, *DELETE, people, "--exclude", held, ALLOW) == (
        f"adapty-async: --exclude: {held} contains no IDs: name the right file, or leave out the option if nothing is "
        "to be excluded"
    )


# The column of the IDs


@pytest.mark.parametrize("header", [(), ("person",), ("customer_user_id",), ("id",)])
@pytest.mark.parametrize("name", ["hold.csv", "hold.ids", "hold.tsv"])
def test_one_id_per_line_needs_no_header_beside_column(
    witness: Witness, tmp_path: Path, say: Say, header: tuple[str, ...], name: str
) -> None:
    people = write(tmp_path, "input.csv", "name,person", *(f"n,{id_}" for id_ in ids(PEOPLE)))
    held = write(tmp_path, name, *header, *ids(2))
    status, _, err = say(*DELETE, people, "--column", "person", "--exclude", held)
    assert (status, "--exclude lists 2 IDs: 2 rows are excluded" in err) == (0, True)
    assert set(witness.log) == set(ids(PEOPLE)) - set(ids(2))
    assert say("resume", ledger_of(people))[0] == 0


@pytest.mark.parametrize(
    ("rows", "column", "says"),
    [
        (
            ("name,mail", "n,{}"),
            "person",
            "has no column person, but 'name', 'mail': rename that of the IDs to person",
        ),
        (
            ("profile_id", "{}"),
            "person",
            "begins with 'profile_id', but --by says customer_user_id: if those are the IDs, rename it to person",
        ),
        (
            ("profile_id", "{}"),
            None,
            (
                "begins with 'profile_id', but --by says customer_user_id: if those are the IDs, rename it to "
                "customer_user_id"
            ),
        ),
        (("mail;why", "{};x"), "person", "looks like a table with columns separated by ';'"),
        (("{}", "person"), "person", "line 2: the header is repeated, as if files had been joined: correct it"),
    ],
)
def test_a_list_is_not_told_to_name_its_column(
    witness: Witness, tmp_path: Path, say: Say, rows: tuple[str, ...], column: str | None, says: str
) -> None:
    header = column or "customer_user_id"
    people = write(tmp_path, "input.csv", f"name,{header}", *(f"n,{id_}" for id_ in ids(PEOPLE)))
    held = write(tmp_path, "hold.csv", *(row.format(ids(1)[0]) for row in rows))
    options = [] if column is None else ["--column", column]
    sentence = refused(say, witness, *DELETE, people, *options, "--exclude", held)
    assert says in sentence
    assert "--column" not in sentence


# Spelling


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ann@example.com", "Ann@Example.COM"),
        ("straße", "STRASSE"),
        ("i\u0307d", "\u0130D"),
        ("u 1", "u1"),
        ("u1", " u1 "),
        ("u\u00a01", "u 1"),
        ("u\u200b1", "u1"),
        ("\ufeffu1", "u1"),
        ("u\u00ad1", "u1"),
        ("u\ufe0f1", "u1"),
        ("\u00e9va", "e\u0301va"),
        ("\uff55\uff11", "u1"),
        ("\u212b", "\u00e5"),
        ("a-b", "a\u2013b"),
        ("a-b", "a\u2010b"),
        ('"u1"', "u1"),
        ("'007", "7"),
        ("\u201cu1\u201d", "u1"),
        ("007", "7"),
        ("0", "000"),
        ("+491701234567", "491701234567"),
        ("00491701234567", "+491701234567"),
        ("12345", "12345.0"),
        ("12345", "12345.00"),
        ("12345", "12345,0"),
        ("12345", "12,345"),
        ("1000", "1.000"),
        ("1234567", "1'234'567"),
        ("1234567", "1,234,567.00"),
        ("12345", "\u0661\u0662\u0663\u0664\u0665"),
        ("ann@example.com", "ann@example.com."),
        ("12345", "12345!"),
        ("ann@example.com", "ann%40example.com"),
        ("ann@example.com", "ann&#64;example.com"),
        ("ann@example.com", "Ann&commat;Example.com"),
        ("ann@example.com", "ann%2540example.com"),
        ("ann+bob@example.com", "ann%2Bbob%40example.com"),
        ("ann&bob", "ann&amp;bob"),
        ("ann&bob", "ann&amp;amp;bob"),
        ("o'neil", "o&#39;neil"),
        ("jos\u00e9", "jos%C3%A9"),
        ("jos\u00e9", "jos&eacute;"),
        ("u1", "u%E2%80%8B1"),
        ("491701234567", "%2B491701234567"),
        ("ann@example.com", "\u0430nn@example.com"),
        ("ann@example.com", "ann@ex\u0430mpl\u0435.\u0441om"),
        ("BETTY", "\u0412\u0415TT\u0423"),
        ("bob", "b\u03bfb"),
        ("XAVER", "\u03a7\u0391V\u0395R"),
        ("no\u00ebl", "n\u043e\u0451l"),
        ("ann", "%D0%B0nn"),
        ("\u0412\u0415\u0420\u0410", "\u0432\u0435\u0440\u0430"),
        ("\u039d\u0399\u039a\u039f\u03a3", "\u03bd\u03b9\u03ba\u03bf\u03c2"),
        ("id1", "\u0131d1"),
        ("id1", "\u0130d1"),
        ("3286abd3-48b0-4e9c-a5f6-ac0a006333a6", "{3286ABD348B04E9CA5F6AC0A006333A6}"),
        ("3286abd3-48b0-4e9c-a5f6-ac0a006333a6", "urn:uuid:3286abd3-48b0-4e9c-a5f6-ac0a006333a6"),
    ],
)
def test_two_spellings_of_one_are_told(one: str, other: str) -> None:
    assert canonicalize_id(one) == canonicalize_id(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("u1", "u2"),
        ("u1", "u01"),
        ("a.b", "ab"),
        ("müller", "muller"),
        ("a-b", "ab"),
        ("a_b", "a-b"),
        ("10", "1"),
        ("1.5", "1"),
        ("1.50", "1.5"),
        ("12,34", "1234"),
        ("u1,000", "u1000"),
        ("...", ""),
        ("u1.0", "u1"),
        ("+u1", "u1"),
        ("", "u"),
        ("100%", "100"),
        ("a%zz", "azz"),
        ("a&b", "ab"),
        ("\u0438\u0432\u0430\u043d", "ivan"),
    ],
)
def test_two_people_are_told_apart(one: str, other: str) -> None:
    assert canonicalize_id(one) != canonicalize_id(other)


@pytest.mark.parametrize("spelling", ["{}%40example.com", "{}&#64;example.com", "{}@\u0435x\u0430mple.com"])
@pytest.mark.parametrize("row", ["{}", "Ann <{}>", "Ann &lt;{}&gt;", "Ann%20{}"])
def test_an_encoded_or_look_alike_id_holds(witness: Witness, tmp_path: Path, say: Say, spelling: str, row: str) -> None:
    first, second = ids(2)
    people = input_of(tmp_path, *(f"{id_}@example.com" for id_ in (first, second)))
    held = write(tmp_path, "hold.csv", f"{second}@example.com", row.format(spelling.format(first)))
    assert f"{held}, line 2: " in refused(say, witness, *DELETE, people, "--exclude", held)


def test_an_id_that_looks_encoded_can_be_excluded(witness: Witness, tmp_path: Path, say: Say) -> None:
    people = input_of(tmp_path, *ids(2), "a%3Bb")
    held = write(tmp_path, "hold.csv", "a%3Bb")
    assert say(*DELETE, people, "--exclude", held)[0] == 0
    assert set(witness.log) == set(ids(2))


def test_where_both_are_in_the_input_it_is_not_clear_who_is_meant(witness: Witness, tmp_path: Path, say: Say) -> None:
    people, held = input_of(tmp_path, *ids(3), ids(1)[0].upper()), write(tmp_path, "hold.csv", ids(1)[0])
    assert "line 1: it differs from the ID on line 5" in refused(say, witness, *DELETE, people, "--exclude", held)
    assert say(*DELETE, people, "--exclude", held, ALLOW)[0] == 0
    assert set(witness.log) == {*ids(3)[1:], ids(1)[0].upper()}


def test_profile_ids_are_the_same_in_either_case(witness: Witness, tmp_path: Path, say: Say) -> None:
    first, *others = map(str, witness.profiles)
    people = write(tmp_path, "input.csv", "profile_id", first, *others)
    held = write(tmp_path, "hold.csv", "profile_id", first.upper())
    assert say("delete", *AT_ONCE, people, "--by", "profile_id", "--yes", "--exclude", held)[0] == 0
    assert list(map(str, witness.profiles)) == [first]


def test_a_damaged_id_on_a_list_refuses_it(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    for row, reason in (
        (f"{ids(2)[1]}\u200b", "the ID contains an invisible character, U+200B (zero width space)"),
        ("1.23E+15", "a spreadsheet has shortened the ID to a number such as 1.23E+15"),
        ("customer_user_id", "the header is repeated, as if files had been joined"),
    ):
        held = write(tmp_path, "hold.csv", ids(1)[0], row)
        sentence = refused(say, witness, *DELETE, people, "--exclude", held, "--skip-damaged", ALLOW)
        assert sentence == f"adapty-async: --exclude: {held}, line 2: {reason}: correct it"


def test_rounded_ids_on_a_list_refuse_it(witness: Witness, tmp_path: Path, say: Say) -> None:
    rounded = [f"12345678901234{n}0" for n in range(5)]
    people = input_of(tmp_path, *ids(2), *rounded, "1234567890123451")
    held = write(tmp_path, "hold.csv", *rounded)
    assert "contains 5 IDs of 16 or more digits" not in say("plan", people, *BY)[2]
    sentence = refused(say, witness, *DELETE, people, "--exclude", held)
    assert sentence.startswith(f"adapty-async: --exclude: {held} contains 5 IDs of 16 or more digits")
    assert say(*DELETE, people, "--exclude", held, "--allow-rounded")[0] == 0
    assert say("resume", ledger_of(people))[0] == 0


def test_a_single_rounded_id_on_a_list_refuses_it_where_it_may_be_another_of_the_input(
    witness: Witness, tmp_path: Path, say: Say
) -> None:
    first, second = "1234567890123450", "1234567890123486"
    people = input_of(tmp_path, *ids(2), first, "1234567890123457", second)
    held = write(tmp_path, "hold.csv", ids(1)[0], first, "1234567890123480")
    sentence = refused(say, witness, *DELETE, people, "--exclude", held)
    assert sentence == (
        f"adapty-async: --exclude: {held}, line 3: a spreadsheet may have rounded it from the ID on line 6 of "
        f"{people}, for it keeps 15 digits of a number: export the list again, as text; if they are two IDs, add "
        "--allow-unmatched-exclude"
    )
    assert say(*DELETE, people, "--exclude", held, ALLOW)[0] == 0
    assert set(witness.log) == {ids(2)[1], "1234567890123457", second}


# Rows of tables that can't be detected from the list alone


@pytest.mark.parametrize(
    "row",
    [
        "{};x",
        "x;{}",
        "{}, x",
        "{}|x",
        "x | {} | y",
        "{},",
        "{} x",
        "Ann <{}>",
        "mailto:{}",
        "{}&x",
        "{}/x",
        "{}#x",
        "[{}]",
        "\u2022{}",
    ],
)
def test_an_id_of_which_only_a_part_is_one_of_the_input_refuses_the_list(
    witness: Witness, people: Path, tmp_path: Path, say: Say, row: str
) -> None:
    rows = [ids(1)[0], "nobody", "not either", row.format(ids(2)[1].upper())]
    held = write(tmp_path, "hold.ids", *rows)
    for allow in ((), (ALLOW,)):
        sentence = refused(say, witness, *DELETE, people, "--exclude", held, *allow)
        assert sentence.startswith(
            f"adapty-async: --exclude: {held}, line 4: only a part of it is the ID on line 3 of {people}"
        )
        assert "write each ID alone, or use commas" in sentence


@pytest.mark.parametrize("cell", ["{}, {}", "{} (x)", "Ann <{}>"])
def test_a_part_of_an_id_in_a_named_column_refuses_the_list_unless_that_is_allowed(
    witness: Witness, people: Path, tmp_path: Path, say: Say, cell: str
) -> None:
    first, second, third = ids(3)
    held = write(tmp_path, "hold.csv", "customer_user_id,why", f"{first},x", f'"{cell.format(second, third)}",x')
    sentence = refused(say, witness, *DELETE, people, "--exclude", held)
    assert sentence.startswith(f"adapty-async: --exclude: {held}, line 3: only a part of it is the ID on line 3 of")
    assert sentence.endswith("write each ID alone; if all of it is an ID, add --allow-unmatched-exclude")
    assert say(*DELETE, people, "--exclude", held, ALLOW)[0] == 0
    assert first not in witness.log
    assert second in witness.log


def test_an_id_with_a_separator_in_it_is_held_back(witness: Witness, tmp_path: Path, say: Say) -> None:
    odd = [f"{ids(1)[0]};x", "auth0|7", "Lovelace, Ada"]
    people = input_of(tmp_path, *ids(3), "auth0|7", '"Lovelace, Ada"', odd[0])
    held = write(tmp_path, "hold.ids", *odd)
    assert say(*DELETE, people, "--exclude", held)[0] == 0
    assert set(witness.log) == set(ids(3))


def test_parts_of_ids_in_json_lines_are_no_cells(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held = write(tmp_path, "hold.jsonl", f'"{ids(1)[0]};x"', f'"{ids(2)[1]}"')
    assert say(*DELETE, people, "--exclude", held)[0] == 0
    assert ids(1)[0] in witness.log


# Resumed jobs


def test_a_list_that_was_changed_is_compared_again(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held = write(tmp_path, "hold.csv", ids(1)[0])
    assert say(*DELETE, people, "--exclude", held)[0] == 0
    requests = witness.stats.requests
    for row, says in (
        (ids(1)[0].upper(), "it differs from the ID on line 2"),
        ("somebody else", f"the only ID in {held} isn't in {people}"),
        (f"x | {ids(1)[0]}", "only a part of it is the ID on line 2"),
    ):
        write(tmp_path, "hold.csv", row)
        for command in ("resume", "retry-failed"):
            status, _, err = say(command, ledger_of(people))
            assert status == 2
            assert says in err
    assert witness.stats.requests == requests
    write(tmp_path, "hold.csv", ids(1)[0])
    assert say("resume", ledger_of(people))[0] == 0


def test_what_was_allowed_stays_so(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held, more = write(tmp_path, "hold.csv", "somebody else"), write(tmp_path, "more.csv", "another")
    assert say(*DELETE, people, "--exclude", held, ALLOW)[0] == 0
    assert say("resume", ledger_of(people), "--exclude", more)[0] == 0
    with LedgerReader(ledger_of(people)) as reader:
        assert reader.job_options["allowances"]["unmatched_exclude"]


def test_a_list_that_a_resume_adds_is_compared(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    assert say(*DELETE, people)[0] == 0
    more = write(tmp_path, "more.csv", "another")
    assert say("resume", ledger_of(people), "--exclude", more)[0] == 2
    assert say("resume", ledger_of(people))[0] == 0  # a refused list isn't stored
    assert say("resume", ledger_of(people), "--exclude", more, ALLOW)[0] == 0
    assert say("resume", ledger_of(people))[0] == 0


def test_rows_that_are_added_are_compared(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held = write(tmp_path, "hold.csv", ids(1)[0])
    assert say(*DELETE, people, "--exclude", held)[0] == 0
    requests = witness.stats.requests
    with people.open("a") as file:
        file.write(f"n,{ids(1)[0].upper()}\n")
    status, _, err = say("resume", ledger_of(people), "--allow-appended", "--yes")
    assert status == 2
    assert f"it differs from the ID on line {PEOPLE + 2}" in err
    assert witness.stats.requests == requests


def test_another_input_is_refused_as_such(witness: Witness, people: Path, tmp_path: Path, say: Say) -> None:
    held = write(tmp_path, "hold.csv", ids(1)[0])
    assert say(*DELETE, people, "--exclude", held)[0] == 0
    people.write_text("customer_user_id\nsomebody else\n")
    assert say("resume", ledger_of(people))[0] == 5


@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)])
def test_the_command_that_feeds_failures_back_is_not_refused_for_the_list(
    witness: Witness, tmp_path: Path, say: Say, ledger: tuple[str, ...]
) -> None:
    people, held = input_of(tmp_path, *ids(3), " bad"), write(tmp_path, "hold.csv", ids(1)[0])
    _, _, err = say(*DELETE, people, "--exclude", held, "--failures", "failed.csv", *ledger)
    (line,) = [line for line in err.splitlines() if line.startswith("  adapty-async delete ")]
    (tmp_path / "failed.csv").write_text((tmp_path / "failed.csv").read_text().replace(" bad", ids(4)[3]))
    _, *arguments = shlex.split(line)
    assert say(*arguments, "--yes", *AT_ONCE)[0] == 0
    assert ids(1)[0] not in witness.log


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    held = write(tmp_path, "hold.csv", *(f"user-{number}" for number in range(1000)))
    peaks = []
    for rows in (60_000, 120_000):
        people = write(tmp_path, f"{rows}.csv", "customer_user_id", *(f"user-{number}" for number in range(rows)))
        tracemalloc.start()
        exclude_lists = read_exclude_lists({"held": held}, by="customer_user_id", column=None, allowances=Allowances())
        with open_id_input(people, by="customer_user_id", excluded_ids=exclude_lists.excluded_ids) as opened:
            exclude_lists.check(opened, Allowances())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000
