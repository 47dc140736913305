"""The tables of the reference are compared with the code in both directions: they are complete and correct."""

import csv
import importlib
import io
import json
import logging
import re
from pathlib import Path

import attrs
import pytest
import typer

import adapty_async
from adapty_async.bulk import Outcome, StopReason
from adapty_async.bulk.operations import OPERATIONS
from adapty_async.cli import main
from adapty_async.cli.app import app
from adapty_async.cli.exit_status import EXIT_STATUS_HELP, PRECEDENCE_HELP, ExitStatus
from adapty_async.cli.inputs.format_detection import infer_format
from adapty_async.cli.inputs.input_types import ADDED_COLUMNS, Format
from adapty_async.cli.jobs.ledger_access import _LEDGER_FILE_SUFFIXES
from adapty_async.cli.output.command_output import Output
from adapty_async.cli.output.progress_screen import EventScreen
from adapty_async.models import InstallationMeta, ProfileAttributes
from adapty_async.pacing import Phase
from adapty_async.testing import Simulator
from docs import generate
from tests.cli.served import served, settings_for

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PUBLIC = ("adapty_async", *(f"adapty_async.{name}" for name in ("bulk", "ledger", "models", "pacing", "testing")))


def tables(page: str, column: str) -> list[dict[str, tuple[str, ...]]]:
    """Return the tables of a page whose first column has this title. Each maps first cells to the other cells."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    found = []
    for block in re.findall(rf"^\| {re.escape(column)} \|.*\n\|[-|]+\|\n((?:\|.*\n?)+)", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
        assert len({row[0] for row in rows}) == len(rows)
        found.append({row[0].strip("` "): tuple(row[1:]) for row in rows})
    return found


def table(page: str, column: str) -> dict[str, tuple[str, ...]]:
    """Return the only such table of a page."""
    (only,) = tables(page, column)
    return only


def code_of(text: str) -> set[str]:
    """Return the text that is marked as code."""
    return set(re.findall(r"`([^`]+)`", text))


class TestGenerated:
    def test_the_pages_and_man_pages_of_the_commands_are_up_to_date(self) -> None:
        texts = generate.pages()
        assert generate.stale({**texts, **generate.man_pages(texts)}) == []

    def test_what_is_out_of_date_is_named_and_written_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(generate, "man_pages", lambda _: {generate.MAN_PAGES / "adapty-async-delete.1": "the page"})
        monkeypatch.setattr(generate, "DOCS", tmp_path / "docs")
        monkeypatch.setattr(generate, "PAGES", tmp_path / "docs" / "cli")
        monkeypatch.setattr(generate, "MAN_PAGES", tmp_path / "docs" / "man")
        (tmp_path / "docs" / "cli").mkdir(parents=True)
        (tmp_path / "docs" / "cli" / "gone.md").write_text("of a command that was removed")
        assert generate.main(["--check"]) == 1
        said = capsys.readouterr().err
        for name in ("cli/gone.md", "cli/delete.md", "man/adapty-async-delete.1"):
            assert f"docs/{name} is out of date: run make reference\n" in said
        assert generate.main([]) == 0
        assert generate.main(["--check"]) == 0
        assert not (tmp_path / "docs" / "cli" / "gone.md").exists()

    def test_every_command_has_a_page_that_is_listed_and_a_man_page(self) -> None:
        names = {*getattr(typer.main.get_command(app), "commands")}  # noqa: B009 - the class has moved
        listed = re.findall(r"^cli/(\S+)$", (REFERENCE / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert sorted(listed) == sorted({*names, "index"})
        assert {path.stem for path in generate.PAGES.glob("*.md")} == {*names, "index"}
        manual = {"adapty-async", *(f"adapty-async-{name}" for name in names)}
        assert {path.stem for path in generate.MAN_PAGES.glob("*.1")} == manual

    @pytest.mark.parametrize("command", generate.commands(), ids=lambda command: command.title)
    def test_a_page_names_every_option_with_its_help(self, command: generate.Command) -> None:
        page = (generate.PAGES / f"{command.name or 'index'}.md").read_text(encoding="utf-8")
        for parameter in (*command.arguments, *command.options):
            assert "```{option} " + parameter.signature + "\n" in page
            assert parameter.help
            assert generate.markdown(parameter.help) in page

    def test_what_markdown_would_take_for_markup_is_shown_as_it_is(self) -> None:
        assert generate.markdown("*x* of FILE_A <b> --null ''") == r"\*x\* of `FILE_A` \<b\> `--null` ''"


class TestHelp:
    @pytest.mark.parametrize("command", generate.commands()[1:], ids=lambda command: command.title)
    def test_the_first_line_fits_into_the_list_of_commands(self, command: generate.Command) -> None:
        assert len(command.summary) <= 44
        assert not command.summary.endswith(".")
        assert re.match(r"[A-Z][a-z]+[^s:] ", command.summary)  # imperative: "Check", not "Checks"

    def test_the_list_of_commands_shows_it_whole(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        main(["--help"])
        shown = capsys.readouterr().out
        for command in generate.commands()[1:]:
            assert re.search(rf"^  {command.name} +{re.escape(command.summary)}$", shown, re.MULTILINE)


def test_every_outcome_is_explained_and_marked_as_failure_or_not() -> None:
    explained = {outcome: failure == "yes" for outcome, (_, failure) in table("outcomes.md", "outcome").items()}
    assert explained == {str(outcome): outcome.is_failure for outcome in Outcome}


def test_every_stop_reason_is_explained() -> None:
    assert set(table("outcomes.md", "stop reason")) == set(map(str, StopReason))


def test_every_exit_status_is_explained_as_in_the_help() -> None:
    explained = {int(status): meaning for status, (meaning,) in table("exit-statuses.md", "exit status").items()}
    assert explained == {status.value: status.description for status in ExitStatus}
    assert PRECEDENCE_HELP in (REFERENCE / "exit-statuses.md").read_text(encoding="utf-8")
    for status, meaning in explained.items():
        assert re.search(rf"^  {status:<3}  {re.escape(meaning)}$", EXIT_STATUS_HELP, re.MULTILINE)


def test_every_exit_status_has_a_heading_under_which_help_is_found() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## Exit status (\d+)", page, re.MULTILINE)
    assert headings == [str(status.value) for status in sorted(ExitStatus) if status is not ExitStatus.OK]


def test_the_statuses_come_in_the_order_that_the_help_says() -> None:
    named = [ExitStatus(int(number)) for number in re.findall(r"\d+", PRECEDENCE_HELP)]
    assert len(named) == len(set(ExitStatus) - {ExitStatus.OK, ExitStatus.USAGE})
    for at, status in enumerate(named):
        assert ExitStatus.pick_by_precedence([*named[at:], ExitStatus.OK]) is status


def test_every_variable_that_is_read_is_explained() -> None:
    read = set()
    for path in (ROOT / "adapty_async").rglob("*.py"):
        read |= set(re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", path.read_text(encoding="utf-8")))
    assert len(read) >= 6
    assert set(table("environment.md", "variable")) == read


def test_every_input_format_is_explained_with_its_names() -> None:
    rows = table("file-formats.md", "format")
    assert {code.strip("`") for code, _, _ in rows.values()} == set(map(str, Format))
    for code, names, _ in rows.values():
        for suffix in code_of(names):
            assert str(infer_format(Path(f"people{suffix}"))) == code.strip("`")
            assert str(infer_format(Path(f"people{suffix}.gz"))) == code.strip("`")
    known = {suffix for suffix in suffixes_in_the_code() if infer_format(Path(f"people{suffix}"))}
    assert {suffix for _, names, _ in rows.values() for suffix in code_of(names)} == known


def suffixes_in_the_code() -> set[str]:
    """Return every string in the code of the inputs that may be a file name suffix."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "adapty_async" / "cli" / "inputs").glob("*.py")]
    return {suffix for text in texts for suffix in re.findall(r"\"(\.[a-z]+)\"", text)}


def test_every_attribute_is_explained() -> None:
    assert set(table("attributes.md", "attribute")) == {field.name for field in attrs.fields(ProfileAttributes)}
    assert set(table("attributes.md", "field")) == {field.name for field in attrs.fields(InstallationMeta)}


def test_the_limits_of_custom_attributes_are_those_of_the_model() -> None:
    text = " ".join((REFERENCE / "attributes.md").read_text(encoding="utf-8").split())
    match = re.search(
        r"at most (\d+) custom attributes. A key has 1 to (\d+) .* text of at most (\d+) characters", text
    )
    assert match is not None
    keys, length, size = map(int, match.groups())
    ProfileAttributes(custom_attributes={f"k{at}": "" for at in range(keys)} | {})
    ProfileAttributes(custom_attributes={"k" * length: "v" * size})
    too_many: list[dict[str, str]] = [
        {f"k{at}": "" for at in range(keys + 1)},
        {"k" * (length + 1): ""},
        {"k": "v" * (size + 1)},
    ]
    for custom in too_many:
        with pytest.raises(ValueError, match="custom_attributes"):
            ProfileAttributes(custom_attributes=custom)


def test_every_file_beside_a_ledger_is_explained() -> None:
    assert set(table("ledger-files.md", "name")) == {f"LEDGER{suffix}" for suffix in _LEDGER_FILE_SUFFIXES}


def test_every_logger_is_explained() -> None:
    named = set()
    for path in (ROOT / "adapty_async").rglob("*.py"):
        named |= set(re.findall(r"getLogger\(\"([\w.]+)\"\)", path.read_text(encoding="utf-8")))
    assert set(table("events-and-logs.md", "logger")) == named
    assert all(isinstance(logging.getLogger(name), logging.Logger) for name in named)


class TestWhatCommandsWrite:
    @pytest.fixture
    def simulator(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Simulator":
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("ADAPTY_API_KEY_FILE", raising=False)
        simulator = Simulator(profiles=4)
        (tmp_path / "people.csv").write_text(
            "customer_user_id\n" + "".join(f"user-{number:06}@example.com\n" for number in (1, 2, 3, 9))
        )
        return simulator

    def lines(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
    ) -> list[str]:
        """Run a command with the simulator. Return its standard output."""
        with served(simulator):
            for name, value in settings_for(simulator).items():
                monkeypatch.setenv(name, value)
            assert main([*words]) in (0, 1)
        return capsys.readouterr().out.splitlines()

    def test_the_fields_of_get(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ("get", "people.csv", "--by", "customer_user_id", "--pace", "100000")
        lines = [json.loads(line) for line in self.lines(simulator, monkeypatch, capsys, *words)]
        (explained,) = (each for each in tables("file-formats.md", "field"))
        assert {name for line in lines for name in line} == set(explained)
        only_of_failures = {name for name, (meaning,) in explained.items() if "Only in rows that failed" in meaning}
        (fetched, *_) = (line for line in lines if line["outcome"] == "fetched")
        assert set(fetched) == set(explained) - only_of_failures

    def test_the_columns_of_export_and_of_the_failed_rows_and_the_events(
        self,
        simulator: Simulator,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        progress, _, end = tables("events-and-logs.md", "field")
        words = ("--by", "customer_user_id", "--yes", "--pace", "100000", "--json", "--log-file", "job.log")
        lines = self.lines(simulator, monkeypatch, capsys, "delete", "people.csv", *words)
        events = [json.loads(line) for line in lines]
        common = {"event", "at"}
        assert {event["event"] for event in events} <= set(table("events-and-logs.md", "event"))
        for event in events:
            if event["event"] == "progress":
                assert set(event) - common == set(progress)
        assert "progress" in {event["event"] for event in events}
        assert set(events[-1]) - common == {name for name, (_, who) in end.items() if who != "`verify`"}
        unrecorded = self.lines(
            simulator, monkeypatch, capsys, "delete", "people.csv", *words, "--no-ledger", "--max-absent", "100%"
        )
        assert set(json.loads(unrecorded[-1])) == set(events[-1])
        ledger = "people.csv.adapty.db"
        verified = self.lines(simulator, monkeypatch, capsys, "verify", ledger, "--json", "--pace", "100000")
        expected = {name for name, (_, who) in end.items() if who != "all but `verify`"}
        assert set(json.loads(verified[-1])) - common == expected
        exported = self.lines(simulator, monkeypatch, capsys, "export", ledger)
        export, failed = tables("file-formats.md", "column")[::-1]
        assert next(csv.reader(io.StringIO(exported[0]))) == [*export]
        assert tuple(failed) == ADDED_COLUMNS
        assert (tmp_path / "job.log").exists()

    def test_a_warning_is_an_event_for_the_reader(self, capsys: pytest.CaptureFixture[str]) -> None:
        _, log, _ = tables("events-and-logs.md", "field")
        EventScreen(Output(json=True)).show_message("the job is parked", "WARNING")
        warning = json.loads(capsys.readouterr().out)
        assert warning["event"] == "log"
        assert set(warning) - {"event", "at"} == set(log)
        assert f"`{warning['level']}`" in log["level"][0]

    def test_the_operations_of_a_ledger(self) -> None:
        (status,) = (rows for rows in tables("events-and-logs.md", "name") if "operation" in rows)
        assert code_of(status["operation"][0]) == {spec.name for spec in OPERATIONS.values() if spec.has_ledger}

    def test_the_phases_of_a_pacer(self) -> None:
        progress, *_ = tables("events-and-logs.md", "field")
        assert code_of(progress["phase"][0]) == set(map(str, Phase))


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_documented(module: str) -> None:
    documented = "".join(path.read_text(encoding="utf-8") for path in (REFERENCE / "api").glob("*.md"))
    public = importlib.import_module(module)
    if module != "adapty_async":
        assert f".. automodule:: {module}\n   :members:\n" in documented
        return
    of_pages = {
        name
        for page in PUBLIC[1:]
        if f".. automodule:: {page}\n" in documented
        for name in importlib.import_module(page).__all__
    }
    named = set(re.findall(r"^\.\. auto(?:class|exception):: (\w+)$", documented, re.MULTILINE))
    assert named <= set(public.__all__)
    assert set(public.__all__) == named | (set(public.__all__) & of_pages) | {"bulk"}


def test_every_error_stands_in_the_tree() -> None:
    page = (REFERENCE / "api" / "errors.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    errors = {name for name in adapty_async.__all__ if name.endswith("Error")}
    assert set(re.findall(r"\w+Error\b", tree)) == errors
    parents: list[str] = []
    for line in tree.splitlines():
        name = re.search(r"\w+$", line)
        assert name is not None
        del parents[name.start() // 4 :]
        if parents:
            named = [base.__name__ for base in getattr(adapty_async, name[0]).__mro__ if base.__name__ in errors]
            assert named[1] == parents[-1]
        parents.append(name[0])


# Folders and files of the map whose modules haven't been moved yet.
def test_the_map_of_the_folders_shows_what_is_there() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    tree = re.findall(r"```text\n(.*?)```", page, re.DOTALL)[0]
    shown, parents = set(), [""]
    for indent, name in re.findall(r"^( *)([\w.]+/?)", tree, re.MULTILINE):
        del parents[len(indent) // 2 + 1 :]
        shown.add(f"{parents[-1]}{name}".rstrip("/"))
        parents.append(f"{parents[-1]}{name}")
    assert {path for path in shown if not (ROOT / path).exists()} == set()
    folders = {path.parent for path in (ROOT / "adapty_async").glob("*/*.py")}
    assert {str(folder.relative_to(ROOT)) for folder in folders} <= shown
    for path in re.findall(r"`(adapty_async/[\w./]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        assert (ROOT / path).exists()
