import contextlib
import importlib.metadata
import json
import re
import runpy
import shlex
import subprocess
import sys

import pytest
import typer

from adapty_async.cli import main
from adapty_async.cli.app import app
from adapty_async.cli.command_runner import run_and_exit
from adapty_async.cli.exit_status import CommandError, ExitStatus
from adapty_async.install_command import format_install_command
from adapty_async.testing.command import _make_parser
from tests.cli.served import ROOT, started
from tests.waiting import PATIENCE

BLOCKED = "import sys; sys.modules[{!r}] = None; from adapty_async.cli import main; sys.exit(main({!r}))"


COMMANDS = sorted(getattr(typer.main.get_command(app), "commands"))  # noqa: B009 - the class has moved


def test_the_help_leads_from_the_demo_to_a_job_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for example in ("demo", "delete people.csv --by customer_user_id", "resume people.csv.adapty.db"):
        assert f"  adapty-async {example}\n" in shown
    assert len(COMMANDS) >= 11


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_teaches_by_two_examples_that_could_be_typed(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    described = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.match(rf"usage: adapty-async {command} \[", shown, re.IGNORECASE)
    examples = re.findall(rf"^ +adapty-async ({command}( .*)?)$", shown, re.MULTILINE)
    assert len({example for example, _ in examples}) >= 2
    for example, _ in examples:
        words = shlex.split(example.partition(" > ")[0])
        if command == "simulator":
            _make_parser("it").parse_args(words[1:])
        else:
            described.make_context(command, words[1:], resilient_parsing=False)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_has_a_short_form(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for option in ("-h", "--help"):
        with contextlib.suppress(SystemExit):  # the simulator's, which is argparse's
            assert main([*filter(None, [command]), option]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "-h, --help" in shown[0]


def test_the_shell_can_complete_commands_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_ADAPTY_ASYNC_COMPLETE", "complete_bash")
    for typed, completed in [
        ("re", {"resume", "report", "retry-failed"}),
        ("delete --max-r", {"--max-rate"}),
    ]:
        monkeypatch.setenv("COMP_WORDS", f"adapty-async {typed}")
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
        main([])
        assert set(capsys.readouterr().out.split()) == completed


@pytest.mark.parametrize("system", ["win32", "emscripten"])
def test_elsewhere_the_command_says_that_the_library_works(
    system: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert main(["demo"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Linux and macOS" in line
    assert "from adapty_async import bulk" in line


def test_the_library_works_where_nothing_of_unix_is() -> None:
    program = """
import asyncio, sys
for name in ("fcntl", "pwd", "grp", "resource", "termios", "pty", "tty"):
    sys.modules[name] = None
from adapty_async import *
from adapty_async import bulk
from adapty_async.ledger import Ledger
async def main():
    async with AdaptyClient("key") as client:
        print(await bulk.delete_profiles(client, [], by="customer_user_id"))
asyncio.run(main())
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)  # noqa: S603 - our own interpreter
    assert (shown.returncode, shown.stderr) == (0, "")


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage" in "".join(capsys.readouterr())


def test_no_help_loads_aiohttp() -> None:
    program = """
import sys
from adapty_async.cli import main
from adapty_async.cli.app import app
import typer
commands = typer.main.get_command(app).commands
for arguments in ([], *([name] for name in commands)):
    try:
        assert main([*arguments, "--help"]) == 0
    except SystemExit as end:  # the simulator's, which is argparse's
        assert end.code == 0
print(len(commands), *sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout  # noqa: S603 - our own interpreter
    count, *modules = shown.splitlines()[-1].split()
    assert int(count) >= 11
    assert shown.count("sage: ") > int(count)
    assert "typer" in modules
    assert "aiohttp" not in modules


def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1.2.3")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "adapty-async adapty-async 1.2.3\n"


def test_a_source_tree_has_no_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert main(["--version"]) == 0
    assert "not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["unknown"],
        ["delete"],
        ["delete", "people.csv"],
        ["delete", "people.csv", "--by", "name"],
        ["delete", "people.csv", "--by", "profile_id", "--concurrency", "0"],
        ["delete", "people.csv", "--by", "profile_id", "--max-rate", "fast"],
        ["delete", "people.csv", "--by", "profile_id", "--max-rate", "0"],
        ["delete", "people.csv", "--by", "profile_id", "--max-rate", "nan"],
        ["delete", "people.csv", "--by", "profile_id", "--expect", "0"],
        ["delete", "people.csv", "--by", "profile_id", "--app", "mine"],
        ["plan", "people.csv"],
        ["resume"],
        ["retry-failed", "people.csv.adapty.db", "--allow-appended"],
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert shown.err.strip()


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_command_says_how_to_install_it(missing: str) -> None:
    program = BLOCKED.format(missing, ["delete", "people.csv"])
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)  # noqa: S603 - our own interpreter
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith(f"install them with: {format_install_command('cli')}\n")
    assert "Traceback" not in ended.stderr


def test_the_simulator_works_without_the_extra() -> None:
    program = BLOCKED.format("typer", ["simulator", "--help"])
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)  # noqa: S603 - our own interpreter
    assert ended.returncode == 0
    assert "--profiles" in ended.stdout


def test_without_the_extra_in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["demo"]) == 2
    assert format_install_command("cli") in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["simulator", "--help"])
    assert end.value.code == 0


def test_a_module_of_ours_that_is_missing_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adapty_async.cli.app", None)
    with pytest.raises(ModuleNotFoundError, match="app"):
        main(["demo"])


def test_the_simulator_gets_its_arguments_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulator", "--help"]) == 0
    assert "--profiles" in capsys.readouterr().out
    assert main(["simulator", "--rate", "0"]) == 2
    assert "rate must be" in capsys.readouterr().err


def test_the_simulator_runs_as_a_process() -> None:
    with started(["simulator", "--profiles", "3"], {}) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["base_url"].startswith("http://127.0.0.1:")
        process.terminate()
        assert process.communicate(timeout=PATIENCE) == (b"", b"")
        assert process.returncode == 0


@pytest.mark.parametrize("module", ["adapty_async", "adapty_async.cli"])
def test_the_package_runs_as_a_module(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["adapty-async", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert end.value.code == 0


@pytest.mark.parametrize("module", ["adapty_async.__main__", "adapty_async.cli.__main__"])
def test_importing_the_module_runs_nothing(module: str) -> None:
    runpy.run_module(module, run_name="imported")


@pytest.mark.parametrize(
    ("raised", "status", "sentence"),
    [
        (CommandError("so it is"), ExitStatus.USAGE, "so it is"),
        (CommandError("no key", ExitStatus.CREDENTIALS), ExitStatus.CREDENTIALS, "no key"),
        (KeyboardInterrupt(), ExitStatus.INTERRUPTED, "interrupted"),
        (LookupError("ann@example.com"), ExitStatus.FAILED, "internal error (LookupError in test_main.py, line"),
    ],
)
def test_whatever_a_command_raises_is_one_sentence_and_a_status(
    raised: BaseException, status: ExitStatus, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> ExitStatus:
        raise raised

    with pytest.raises(typer.Exit) as exit_:
        run_and_exit(command)
    assert exit_.value.exit_code == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("adapty-async: ")
    assert sentence in line
    assert "ann@" not in line
