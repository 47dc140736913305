"""The requirements and files of an installation, as pyproject.toml declares them."""

import importlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from adapty_async.cli.jobs.ledger_access import _LEDGER_FILE_SUFFIXES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    """Return the names of requirements. All must have a lower bound."""
    found = [re.fullmatch(r"([a-z]+)>=[0-9.]+(,<\d+)?", requirement) for requirement in requirements]
    assert all(found), requirements
    return {match[1] for match in found if match}


def test_the_library_needs_four_packages_and_nothing_else() -> None:
    assert names(PROJECT["dependencies"]) == {"aiohttp", "attrs", "cattrs", "tenacity"}


def test_the_command_line_needs_two_more() -> None:
    assert names(PROJECT["optional-dependencies"]["cli"]) == {"typer", "rich"}


def test_the_command_leads_to_a_function() -> None:
    module, _, function = PROJECT["scripts"]["adapty-async"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_wheel_brings_the_man_pages_and_a_source_distribution_can_build_it() -> None:
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    ((folder, place),) = targets["wheel"]["shared-data"].items()
    assert place == "share/man/man1"
    assert (ROOT / folder / "adapty-async.1").is_file()
    assert {path.suffix for path in (ROOT / folder).iterdir()} == {".1"}
    assert folder in targets["sdist"]["include"]


def test_type_checkers_are_told_of_the_types() -> None:
    assert (ROOT / "adapty_async" / "py.typed").is_file()


LEFT = (
    *("key.txt", "simulator.json", "people.csv", "failures.csv", "failures.csv.0123abcd.part", "profiles.jsonl"),
    *(
        "spring.db",
        "record.json",
        "record.md",
        "people.txt",
        "people.jsonl.gz",
        "people.parquet",
        "people.log",
        "key.pace",
    ),
    *(f"{name}{suffix}" for name in ("people.csv.adapty.db", "stdin.adapty.db") for suffix in _LEDGER_FILE_SUFFIXES),
)


def git(*arguments: str) -> list[str]:
    """Run git in the project. Return its output lines."""
    found = shutil.which("git")
    if found is None or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    done = subprocess.run([found, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - git
    return done.stdout.splitlines()


def test_git_ignores_what_the_commands_of_the_readme_leave_in_this_folder() -> None:
    assert git("check-ignore", "--no-index", *LEFT) == [*LEFT]


def test_git_ignores_no_file_of_its_own() -> None:
    assert git("ls-files", "--cached", "--ignored", "--exclude-standard") == []
