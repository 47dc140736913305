"""What the README shows is run as it stands there, and what it says of names is held against the code."""

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import sys
import tomllib
from asyncio.subprocess import PIPE
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

import adapty_async
from adapty_async.bulk import Outcome
from adapty_async.testing import Simulator, prefilled_customer_user_id
from tests.cli.served import served
from tests.cli.terminal import shell_in

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PEOPLE = [f"person {number}" for number in range(12)]

AFTER_A_DELETION = ("resume", "retry-failed", "status", "verify", "export", "report", "redact")
ATTRIBUTES = ("doctor", "update", "create", "get")
SUBCOMMANDS = ("plan", "delete", *AFTER_A_DELETION, *ATTRIBUTES, "simulator", "demo")
FOR_THE_SHELL = ("until", "unset", "export", "seq", "cd", "kill", "chmod")
APP = "3286abd3-48b0-4e9c-a5f6-ac0a006333a6"
# The script that an installation makes of the entry point.
COMMAND = (sys.executable, "-c", "import sys; from adapty_async.cli import main; sys.exit(main())")
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")

CONFTEST = "# conftest.py\n"  # how a block begins that is that file, for those below it

# What reaches the simulator from the blocks under a heading: answers by method and status.
ANSWERS: dict[str, list[dict[tuple[str, int], int]]] = {
    "The client": [{("POST", 200): 1, ("PATCH", 200): 1, ("GET", 200): 1, ("DELETE", 204): 1}],
    "Many profiles": [{("DELETE", 204): len(PEOPLE)}, {("GET", 200): 1, ("GET", 404): 1}],
    "A job that survives its process": [{("DELETE", 204): len(PEOPLE)}],
    "Errors and retries": [{("GET", 404): 1}],
    "Testing your own code": [{}, {}, {}],  # they have simulators of their own, or none
}


def blocks(language: str) -> list[tuple[str, str]]:
    """Give each code block of a language with the heading above it."""
    found = []
    for section in re.split(r"^## ", README, flags=re.MULTILINE):
        heading = section.partition("\n")[0]
        found += [
            (heading, block) for block in re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        ]
    return found


def scripts() -> list[tuple[str, str]]:
    """Give each block of Python that runs, with the heading above it."""
    return [(heading, block) for heading, block in blocks("python") if not block.startswith(CONFTEST)]


def commands(*beginning: str) -> list[list[str]]:
    """Give the commands of the shell blocks that begin with some words, each as its words."""
    lines = [line for _, block in blocks("sh") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [each for each in words if tuple(each[: len(beginning)]) == beginning]


@pytest.fixture
def environment(simulator: Simulator) -> dict[str, str]:
    """Give what a reader has set, but for the server: the key, and the project where Python finds it."""
    return os.environ | {
        "ADAPTY_API_KEY": simulator.api_key,
        "ADAPTY_BASE_URL": simulator.base_url,
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def folder(tmp_path: Path, simulator: Simulator) -> Path:
    """Give a folder with a reader's files: those whom they name have profiles."""
    simulator.profiles.app_id = APP
    for person in [*PEOPLE, "u2"]:
        simulator.add_profile(customer_user_id=person)
    (conftest,) = (block for _, block in blocks("python") if block.startswith(CONFTEST))
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    (tmp_path / "people.txt").write_text("\n".join(PEOPLE), encoding="utf-8")
    (tmp_path / "people.csv").write_text("\n".join(["customer_user_id", *PEOPLE]), encoding="utf-8")
    return tmp_path


async def run(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> tuple[int | None, str, str]:
    """Run a program to its end, while the simulator serves it; give its exit status, output and complaints."""
    process = await asyncio.create_subprocess_exec(*arguments, cwd=cwd, env=env, stdout=PIPE, stderr=PIPE)
    printed, complaints = await process.communicate()
    return process.returncode, printed.decode(), complaints.decode()


def test_every_python_block_has_an_expectation() -> None:
    assert Counter(heading for heading, _ in scripts()) == {name: len(each) for name, each in ANSWERS.items()}


@pytest.mark.parametrize(
    ("block", "answers"),
    [
        pytest.param(block, answers, id=heading)
        for (heading, block), answers in zip(scripts(), chain(*ANSWERS.values()), strict=True)
    ],
)
async def test_a_python_block_runs_as_it_stands(
    block: str, answers: dict[tuple[str, int], int], folder: Path, environment: dict[str, str], simulator: Simulator
) -> None:
    script = folder / "test_block.py"
    script.write_text(block, encoding="utf-8")
    how = PYTEST if "def test_" in block else ()
    status, printed, complaints = await run(
        sys.executable, "-W", "error", *how, str(script), cwd=folder, env=environment
    )
    assert (status, complaints) == (0, ""), printed + complaints
    assert printed
    assert simulator.count.answers == answers


def test_every_shell_line_is_tested_below() -> None:
    tested = [
        ("make",),
        ("pip", "install"),
        ("python3", "-m", "venv"),
        ("bash", ".ci/run"),
        *((word,) for word in FOR_THE_SHELL),
        *(("adapty-async", name) for name in SUBCOMMANDS),
    ]
    assert sum(len(commands(*beginning)) for beginning in tested) == len(commands())


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
async def test_a_make_target_exists(words: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}  # of a make that runs us
    status, _, complaints = await run(words[0], "--dry-run", *words[1:], cwd=ROOT, env=environment)
    assert (status, complaints) == (0, "")


@pytest.mark.parametrize("words", commands("pip", "install"), ids=" ".join)
def test_what_is_to_be_installed_exists(words: list[str]) -> None:
    folder, _, extra = words[2].rstrip("]").partition("[")
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {extra} - {""} <= set(project["optional-dependencies"])


@pytest.mark.parametrize("words", commands("bash"), ids=" ".join)
async def test_a_script_exists_and_can_be_read_by_bash(words: list[str]) -> None:
    assert (await run(words[0], "-n", *words[1:], cwd=ROOT))[0] == 0


@pytest.mark.parametrize("words", commands("adapty-async", "delete"), ids=" ".join)
async def test_a_command_that_deletes_deletes(
    words: list[str], folder: Path, environment: dict[str, str], simulator: Simulator
) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{len(PEOPLE)}\n".encode())  # the confirmation
    shown = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(keyboard, lambda: shown.extend(os.read(keyboard, 4096)))
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words[1:], cwd=folder, env=environment, stdin=terminal, stdout=PIPE, stderr=terminal
    )
    printed, _ = await process.communicate()
    loop.remove_reader(keyboard)
    os.close(keyboard)
    os.close(terminal)
    assert process.returncode == 0, shown.decode()
    assert str(len(PEOPLE)).encode() in printed
    assert simulator.count.answers == {("DELETE", 204): len(PEOPLE), **({("GET", 200): 1} if "--app" in words else {})}


async def test_the_commands_that_go_with_a_deletion_work_in_the_order_in_which_they_stand(
    folder: Path, environment: dict[str, str], simulator: Simulator
) -> None:
    block = next(block for heading, block in blocks("sh") if heading == "The command line")
    lines = [shlex.split(line) for line in block.splitlines()]
    for words in (words for words in lines if words[1] in ("delete", *AFTER_A_DELETION)):
        status, printed, complaints = await run(*COMMAND, *words[1:], cwd=folder, env=environment)
        assert status == 0, complaints
        assert printed or words[1] == "report"
    assert simulator.count.answered(204) == len(PEOPLE)
    assert {"failures.csv", "failed-again.csv", "record.json", "record.md"} <= names_in(folder)


async def test_the_commands_for_attributes_work_in_the_order_in_which_they_stand(
    folder: Path, environment: dict[str, str], simulator: Simulator
) -> None:
    (folder / "changes.csv").write_text(
        f"customer_user_id,email,custom.team\n{PEOPLE[0]},NULL,blue\n", encoding="utf-8"
    )
    (folder / "newcomers.csv").write_text("customer_user_id,note,first_name\nnew,x,Ann\n", encoding="utf-8")
    for words in (words for words in commands("adapty-async") if words[1] in ATTRIBUTES or "--for" in words):
        arguments = words[1 : words.index(">")] if ">" in words else words[1:]
        yes = ["--yes"] if words[1] in ("update", "create") else []
        status, printed, complaints = await run(*COMMAND, *arguments, *yes, cwd=folder, env=environment)
        assert status == 0, complaints + printed
        assert printed
    (changed, new) = (simulator.profiles.find(customer_user_id=name) for name in (PEOPLE[0], "new"))
    assert changed is not None
    assert new is not None
    assert changed.custom_attributes == {"team": "blue", "campaign": "spring"}
    assert new.attributes == {"first_name": "Ann"}
    assert simulator.count.answered(200) == 1 + 2 * len(PEOPLE) + 1
    assert "failures.csv" in names_in(folder)


def test_from_a_list_of_people_to_a_filed_record_in_eight_commands(tmp_path: Path) -> None:
    (block,) = (block for heading, block in blocks("sh") if heading == "From a list of people to a filed record")
    install, *lines = block.splitlines()
    assert install == "python3 -m venv .venv && . .venv/bin/activate && pip install '.[cli]'"  # the last tested above
    assert len(lines) == 7
    people = [prefilled_customer_user_id(number) for number in range(1, 13)]
    (tmp_path / "people.csv").write_text("\n".join(["customer_user_id", *people]), encoding="utf-8")
    with served(Simulator(profiles=len(people))) as simulator:
        simulator.profiles.app_id = APP
        (tmp_path / "key.txt").write_text(f"{simulator.api_key}\n")
        with shell_in(tmp_path, {"ADAPTY_BASE_URL": simulator.base_url}) as shell:
            for line in lines:
                shell.enter(line)
                if " delete " in line:
                    shell.until("Type 12 to delete them: $")
                    assert len(simulator.profiles) == 12
                    shell.type("12\n")
                assert shell.ended()[0] == 0, shell.written
        assert simulator.count.answers == {("GET", 200): 12 + 1, ("DELETE", 204): 12, ("GET", 404): 1}
    assert f"--app {APP}" in shell.everything
    assert (tmp_path / "key.txt").stat().st_mode & 0o777 == 0o600
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record["totals"] == {"deleted": 12}
    assert record["app_id"] == APP
    written = shell.everything + (tmp_path / "record.md").read_text(encoding="utf-8")
    assert "DSR-17" in written
    assert not [person for person in people if person in written]


def test_the_simulator_takes_the_place_of_adapty_for_the_other_commands(tmp_path: Path) -> None:
    (block,) = (block for _, block in blocks("sh") if "simulator.json &" in block)
    (end,) = (block for _, block in blocks("sh") if "kill $!" in block)
    (tmp_path / "people.csv").write_text("of the operator")
    with shell_in(tmp_path, {"ADAPTY_API_KEY_FILE": "key.txt", "TMPDIR": str(tmp_path)}) as shell:
        for line in block.splitlines():
            if line != "adapty-async demo":  # tested below
                shell.enter(line)
                assert shell.ended()[0] == 0, shell.written
        shell.enter("adapty-async plan people.csv --by customer_user_id --probe 5 --pace 1000")
        assert shell.ended()[0] == 0, shell.written
        assert re.search(r"^exist +5\r$", shell.written, re.MULTILINE)
        for line in end.splitlines():
            shell.enter(line)
            assert shell.ended()[0] == 0, shell.written
        shell.enter("echo [$ADAPTY_API_KEY$ADAPTY_BASE_URL] $PWD")
        assert f"[] {tmp_path}" in "".join(shell.ended()[1])
    assert (tmp_path / "people.csv").read_text() == "of the operator"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_the_command_that_simulates_serves_until_it_is_interrupted(
    folder: Path, environment: dict[str, str]
) -> None:
    for words in commands("adapty-async", "simulator"):
        arguments = words[1 : words.index(">")]
        process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, cwd=folder, env=environment, stdout=PIPE)
        assert process.stdout is not None
        assert b"http://127.0.0.1:" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_the_command_that_demonstrates_is_known(folder: Path, environment: dict[str, str]) -> None:
    for words in commands("adapty-async", "demo"):
        status, _, complaints = await run(*COMMAND, *words[1:], "--help", cwd=folder, env=environment)
        assert (status, complaints) == (0, "")


def test_every_outcome_is_explained_and_marked_as_failure_or_not() -> None:
    rows = re.findall(r"^\| (`.*) \| .* \| (yes|no) \|$", README, re.MULTILINE)
    explained = {outcome: failure == "yes" for cell, failure in rows for outcome in re.findall(r"`(\w+)`", cell)}
    assert explained == {str(outcome): outcome.is_failure for outcome in Outcome}


def test_every_error_stands_in_the_tree() -> None:
    tree = next(block for heading, block in blocks("") if heading == "Errors and retries")
    assert set(re.findall(r"\w+Error\b", tree)) == {name for name in adapty_async.__all__ if name.endswith("Error")}


def test_every_link_into_the_repository_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https:)([^)]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)
