"""The code in the documentation is run as it is, or parsed by the real commands."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from adapty_async.cli import main
from adapty_async.cli.app import app
from adapty_async.testing import Simulator, prefilled_customer_user_id
from adapty_async.testing.command import _make_parser as simulator_parser
from tests.cli.served import served
from tests.cli.terminal import shell_in

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
PEOPLE = [f"person {number}" for number in range(12)]
EXPECTED = 32
"""The number of profiles in the lists of the guides."""
APP = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")
CONFTEST = "# conftest.py\n"  # the first line of a block with that file

# Requests from the Python blocks of a page to the simulator: responses by method and status.
ANSWERS: dict[str, list[dict[tuple[str, int], int]]] = {
    "README.md": [
        {("POST", 200): 1, ("PATCH", 200): 1, ("GET", 200): 1, ("DELETE", 204): 1},
        {("DELETE", 204): len(PEOPLE)},
        {},  # it has a simulator of its own
    ],
    "docs/tutorial/first-client.md": [
        {("POST", 200): 1},
        {("POST", 200): 1, ("PATCH", 200): 1, ("GET", 200): 1},
        {("POST", 200): 1, ("DELETE", 204): 1, ("GET", 404): 1},
    ],
    "docs/tutorial/test-with-the-simulator.md": [{}, {}, {}],  # they have simulators of their own
    "docs/how-to/handle-errors.md": [{("GET", 404): 1}, {("GET", 200): 1}],
    "docs/how-to/run-a-job-from-python.md": [
        {("DELETE", 204): len(PEOPLE)},
        {("GET", 200): 1, ("GET", 404): 1},
        {("DELETE", 204): len(PEOPLE)},
    ],
    "docs/how-to/keep-a-ledger-from-python.md": [
        {("DELETE", 204): len(PEOPLE)},
        {("DELETE", 204): len(PEOPLE)},
        {("DELETE", 204): len(PEOPLE), ("GET", 404): 5},
    ],
    "docs/how-to/mock-with-aioresponses.md": [{}],
    "docs/how-to/control-the-speed.md": [{("DELETE", 204): len(PEOPLE)}],
    "docs/how-to/trace-requests.md": [{("GET", 200): 1}, {("GET", 200): 1}],
}

# Words of the shell that may precede a command, or be one.
SHELL = {"[", "until", "do", "done", "unset", "export", "seq", "cd", "kill", "chmod", "sleep", "echo"}
NOT_OURS = {"make", "pip", "bash", "python3", ".", "jq", "man", *SHELL}

# Commands that aren't run: they need keyboard input, run until interrupted, or take a minute.
ONLY_PARSED = ("demo", "simulator")
# Exit statuses other than 0, with their reasons.
STATUSES = {
    "adapty-async pause people.csv.adapty.db": 2,  # the job isn't running
    "adapty-async unpause people.csv.adapty.db": 2,
    "adapty-async delete present.csv --by customer_user_id": 2,  # no profile is present, so the file doesn't exist
    "adapty-async verify people.csv.adapty.db --sample 5% --new-key": 3,  # no profile is present to confirm its app
}


class Block(NamedTuple):
    """A block of code. `at`: its number among the blocks of its language on the page."""

    page: str
    at: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.at}"


def text_of(path: Path) -> str:
    """Return the text of a page."""
    return path.read_text(encoding="utf-8")


def blocks(language: str) -> list[Block]:
    """Return all blocks of a language."""
    found = []
    for path in PAGES:
        texts = re.findall(rf"^ *```{language}\n(.*?)^ *```$", text_of(path), re.MULTILINE | re.DOTALL)
        found += [Block(str(path.relative_to(ROOT)), at, text) for at, text in enumerate(texts)]
    return found


def scripts() -> list[Block]:
    """Return all Python blocks that are run."""
    return [block for block in blocks("python") if not block.text.startswith(CONFTEST)]


def lines_of(block: Block) -> list[str]:
    """Return the complete lines of a shell block, without comments."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def simple_commands(line: str) -> list[list[str]]:
    """Split a shell line into the words of its simple commands, without redirections and assignments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if re.fullmatch(r"[|&;()]+", word):
            found.append([])
        elif re.fullmatch(r"\d?[<>]+&?", word):
            next(words)
        elif found[-1] or not (re.match(r"\w+=", word) or word in ("until", "do", "if", "then", "!")):
            found[-1].append(word)
    return [words for words in found if words]


def adapty_lines() -> list[tuple[str, list[str]]]:
    """Return the words of each of our commands, with the page."""
    return [
        (block.page, words[1:])
        for block in blocks("sh")
        for line in lines_of(block)
        for words in simple_commands(line)
        if words[0] == "adapty-async"
    ]


def other_lines(*beginning: str) -> list[list[str]]:
    """Return the words of each command that starts with the given ones."""
    found = [words for block in blocks("sh") for line in lines_of(block) for words in simple_commands(line)]
    return [words for words in found if tuple(words[: len(beginning)]) == beginning]


@pytest.fixture
def environment(simulator: Simulator) -> dict[str, str]:
    """Return the environment of a reader, except the server: the key, and the project on Python's path."""
    return os.environ | {
        "ADAPTY_API_KEY": simulator.api_key,
        "ADAPTY_BASE_URL": simulator.base_url,
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def folder(tmp_path: Path, simulator: Simulator) -> Path:
    """Create a folder with a reader's files. The profiles named in them exist."""
    simulator.profiles.app_id = APP
    for person in [*PEOPLE, "u2"]:
        simulator.add_profile(customer_user_id=person)
    conftests = {block.text for block in blocks("python") if block.text.startswith(CONFTEST)}
    (conftest,) = conftests
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    (tmp_path / "people.txt").write_text("\n".join(PEOPLE), encoding="utf-8")
    return tmp_path


async def run(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> tuple[int | None, str, str]:
    """Run a program until it ends, while the simulator runs. Return its exit status, output and error output."""
    process = await create_subprocess_exec(*arguments, cwd=cwd, env=env, stdout=PIPE, stderr=PIPE)
    printed, complaints = await process.communicate()
    return process.returncode, printed.decode(), complaints.decode()


class TestPython:
    def test_every_block_has_an_expectation(self) -> None:
        pages = [block.page for block in scripts()]
        assert {page: pages.count(page) for page in pages} == {page: len(each) for page, each in ANSWERS.items()}

    @pytest.mark.parametrize("block", scripts(), ids=str)
    async def test_a_block_runs_as_it_stands(
        self, block: Block, folder: Path, environment: dict[str, str], simulator: Simulator
    ) -> None:
        script = folder / "test_block.py"
        script.write_text(block.text, encoding="utf-8")
        how = PYTEST if "def test_" in block.text else ()
        status, printed, complaints = await run(
            sys.executable, "-W", "error", *how, str(script), cwd=folder, env=environment
        )
        assert (status, complaints) == (0, ""), printed + complaints
        assert printed
        at = [each for each in scripts() if each.page == block.page].index(block)
        assert simulator.stats.responses == ANSWERS[block.page][at]


class TestCommands:
    @pytest.mark.parametrize(("page", "words"), adapty_lines(), ids=lambda value: " ".join(value)[:60])
    def test_a_command_can_be_parsed(self, page: str, words: list[str]) -> None:
        if words[0].startswith("--"):
            assert words[0] in {name for parameter in _options_of("") for name in parameter}
        elif words[0] == "simulator":
            simulator_parser("it").parse_args(words[1:])
        elif words[-1] != "--help":
            COMMANDS[words[0]].make_context(words[0], words[1:], resilient_parsing=False)

    def test_every_command_is_shown(self) -> None:
        shown = {words[0] for page, words in adapty_lines() if "reference/cli" not in page}
        assert shown >= set(COMMANDS)

    def test_other_commands_are_known_ones(self) -> None:
        others = {words[0] for block in blocks("sh") for line in lines_of(block) for words in simple_commands(line)}
        assert others - {"adapty-async"} <= NOT_OURS

    @pytest.mark.parametrize("words", other_lines("make"), ids=" ".join)
    async def test_a_make_target_exists(self, words: list[str]) -> None:
        status, _, complaints = await run(words[0], "--dry-run", *words[1:], cwd=ROOT, env=_variables())
        assert (status, complaints) == (0, "")

    @pytest.mark.parametrize("words", other_lines("pip", "install"), ids=" ".join)
    def test_what_is_to_be_installed_exists(self, words: list[str]) -> None:
        folder, _, extra = words[2].rstrip("]").partition("[")
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert {extra} - {""} <= set(project["optional-dependencies"])

    @pytest.mark.parametrize("words", other_lines("bash"), ids=" ".join)
    async def test_a_script_exists_and_can_be_read_by_bash(self, words: list[str]) -> None:
        assert (await run(words[0], "-n", *words[1:], cwd=ROOT))[0] == 0

    def test_every_option_in_the_text_exists(self) -> None:
        known = {name for command in ("", *COMMANDS) for names in _options_of(command) for name in names}
        for path in PAGES:
            text = re.sub(r"^ *```.*?^ *```$", "", text_of(path), flags=re.MULTILINE | re.DOTALL)
            named = re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(re.findall(r"`([^`]+)`", text)))
            assert set(named) - known == set(), path.name


def _options_of(command: str) -> list[set[str]]:
    """Return the names of each option of a command. "" means the program."""
    if command == "simulator":
        return [set(action.option_strings) for action in simulator_parser("it")._actions]  # noqa: SLF001 - no public list
    described: Any = COMMANDS[command] if command else typer.main.get_command(app)
    return [set(each.opts) for each in described.get_params(typer.Context(described))]


@pytest.fixture
def server() -> Iterator[Simulator]:
    """Run a simulator for the commands."""
    with served(Simulator()) as simulator:
        simulator.profiles.app_id = APP
        yield simulator


@pytest.fixture
def desk(server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with the files that the guides name. All their profiles exist."""
    people = [*PEOPLE, *map(prefilled_customer_user_id, range(1, EXPECTED - len(PEOPLE) + 1))]
    for person in people:
        server.profiles.add(customer_user_id=person)
    files = {
        "key.txt": f"{server.api_key}\n",
        "new-key.txt": f"{server.api_key}\n",
        "people.csv": "\n".join(["User ID,customer_user_id", *(f"{person},{person}" for person in people)]),
        "changes.csv": f"customer_user_id,first_name,email,custom.team\n{PEOPLE[0]},Ada,NULL,blue\n",
        "newcomers.csv": "customer_user_id,note,first_name\nnew,x,Ann\n",
        "legal-hold.csv": f"customer_user_id\n{PEOPLE[1]}\n",
        "more-holds.csv": f"customer_user_id\n{PEOPLE[2]}\n",
        "people.txt": "\n".join(PEOPLE),
    }
    files["archive/people.csv"] = files["people.csv"]
    for folder in ("archive", "jobs"):
        (tmp_path / folder).mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAPTY_API_KEY", raising=False)
    monkeypatch.setenv("ADAPTY_API_KEY_FILE", "key.txt")
    monkeypatch.setenv("ADAPTY_BASE_URL", server.base_url)
    return tmp_path


def runnable() -> list[Block]:
    """Return the shell blocks of the guides with one of our commands that can be run without keyboard input."""
    guides = [block for block in blocks("sh") if block.page.startswith(("README.md", "docs/how-to"))]
    return [block for block in guides if any(map(can_run, lines_of(block)))]


def can_run(line: str) -> bool:
    """Return True if a line has one of our commands that can be run without keyboard input."""
    words = [words for words in simple_commands(line) if words[0] == "adapty-async"]
    return bool(words) and words[0][1] not in ONLY_PARSED and "-" not in words[0]


class TestGuides:
    @pytest.mark.parametrize("block", runnable(), ids=str)
    def test_the_commands_of_a_guide_do_what_it_says(
        self,
        block: Block,
        desk: Path,
        server: Simulator,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        lines = lines_of(block)
        ledger = re.search(r"\S*people\.csv\.adapty\.db", block.text)
        for name in re.findall(r"adapty-async \w+ (failures\.csv)", block.text):
            (desk / name).write_text(f"customer_user_id,email,adapty_outcome\n{PEOPLE[3]},ada@example.com,failed\n")
        if ledger is not None and not re.search(r"adapty-async delete people.csv", block.text):
            _delete_before(Path(ledger[0]))
        capsys.readouterr()
        for line in lines:
            for words in simple_commands(line):
                if words[0] == "export":
                    monkeypatch.setenv(*words[1].split("=", 1))
                elif words[0] == "chmod":
                    Path(words[2]).chmod(int(words[1], 8))
                elif can_run(line):
                    if "--expect" in words:
                        words[words.index("--expect") + 1] = str(EXPECTED)
                    status = main([*words[1:], *_at_once(words)])
                    shown = capsys.readouterr()
                    assert status == STATUSES.get(line, 0), f"{line}\n{shown.out}{shown.err}"
                    assert shown.out + shown.err or words[1] == "report"
        _check_effects(block, server)


def _check_effects(block: Block, server: Simulator) -> None:
    """Check the effect of a guide about attributes, or of a deletion, on the profiles."""
    if block.page == "docs/how-to/set-attributes.md":
        profile = server.profiles.find(customer_user_id=PEOPLE[0])
        assert profile is not None
        team = {} if "create" in block.text else {"campaign": "spring"} if "--set" in block.text else {"team": "blue"}
        assert profile.custom_attributes == team
        assert ("new" in server.profiles.customer_user_ids) == ("create" in block.text)
    elif "adapty-async delete people.csv" in block.text:
        left = [person for person in PEOPLE if person in server.profiles.customer_user_ids]
        is_dry_run = block.text.rstrip().endswith(" -n")
        assert left == (PEOPLE if is_dry_run else [PEOPLE[1]] if "--exclude" in block.text else [])


def _delete_before(ledger: Path) -> None:
    """Create the ledger that a guide starts from, by deleting people.csv."""
    assert main(["delete", "people.csv", "--by", "customer_user_id", "--app", APP, "--yes", "--pace", "100000"]) == 0
    if ledger.parent != Path():
        ledger.parent.mkdir()
        for suffix in ("", ".key"):
            Path(f"{ledger.name}{suffix}").rename(f"{ledger}{suffix}")


def _at_once(words: list[str]) -> list[str]:
    """Return the options with which a command asks no questions and doesn't wait."""
    known = {name for names in _options_of(words[1]) for name in names}
    added = {"--yes": ["--yes"], "--pace": ["--pace", "100000"]}
    if words[1] == "resume":  # its --yes is only for added rows
        del added["--yes"]
    return [part for name, parts in added.items() if name in known and name not in words for part in parts]


def test_the_first_lesson_works_in_the_order_in_which_it_stands(tmp_path: Path) -> None:
    page = "docs/tutorial/delete-your-first-list.md"
    lines = [line for block in blocks("sh") if block.page == page for line in lines_of(block)]
    assert lines[0] == "python3 -m venv .venv && . .venv/bin/activate && pip install '.[cli]'"  # tested above
    pages_end = lines.index("cd -") + 1  # the commands after it need a real key
    paces = {"plan": " --pace 100000", "delete": " --pace 100", "resume": " --pace 100000", "verify": " --pace 100000"}
    with shell_in(tmp_path, {"TMPDIR": str(tmp_path), "ADAPTY_API_KEY_FILE": "key.txt"}) as shell:
        for line in lines[1:pages_end]:
            command = line.split()[1] if line.startswith("adapty-async ") else ""
            # Without the limit of the tutorial, which would take a minute.
            shell.enter(line.replace(" --rate 60", "") + paces.get(command, ""))
            if command == "delete":
                shell.until("Type 1000 to delete them: $")
                shell.type("1000\n")
                shell.until(r"[1-9]\d* deleted")
                shell.type("\x03")
                assert shell.ended()[0] == 130, shell.written
                shell.until(r"not_attempted +\d+")
            else:
                assert shell.ended()[0] == 0, shell.written
            if command == "resume":
                shell.until(r"deleted +1,000")
            elif command == "verify":
                shell.until(r"absent +50 ")
            elif command == "show":
                shell.until(r"row 17: Adapty accepted the deletion \(204\)")
        shell.enter("echo [$ADAPTY_API_KEY$ADAPTY_BASE_URL] $PWD")
        assert f"[] {tmp_path}" in "".join(shell.ended()[1])
    app = text_of(ROOT / page).partition("--app ")[2].split()[0]
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("*/record.json"))
    assert record["totals"] == {"deleted": 1000}
    assert record["app_id"] == app
    assert [run["notes"]["operator"] for run in record["runs"]] == ["Ada", "Ada"]
    written = shell.everything + next(tmp_path.glob("*/record.md")).read_text()
    assert "DSR-17" in written


class TestPages:
    def test_the_readme_is_short(self) -> None:
        assert text_of(ROOT / "README.md").count("\n") <= 180

    @pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
    def test_every_link_of_a_page_outside_of_the_site_leads_somewhere(self, name: str) -> None:
        links = re.findall(r"\]\((?!https:)([^)]+)\)", text_of(ROOT / name))
        assert links
        assert all((ROOT / link.partition("#")[0]).exists() for link in links)

    def test_the_makefile_tells_its_targets(self) -> None:
        shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=_variables()).stdout  # noqa: S607
        listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in shown.splitlines()}
        makefile = text_of(ROOT / "Makefile")
        (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
        assert set(listed) == set(phony.split())
        assert set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) == set(listed)
        explained = set(re.findall(r"`make ([a-z-]+)`", text_of(ROOT / "CONTRIBUTING.md")))
        shell = {target for words in other_lines("make") for target in words[1:]}
        assert explained | shell >= set(listed) - {"help", "clean", "demo", "linkcheck"}
        assert explained | shell <= set(listed)


def _variables() -> dict[str, str]:
    """Return the environment without the variables of a make that runs the tests."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
