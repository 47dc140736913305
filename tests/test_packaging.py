"""What an installation brings along, as pyproject.toml says it."""

import importlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    """Give the names of requirements that all have a lower bound."""
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


def test_type_checkers_are_told_of_the_types() -> None:
    assert (ROOT / "adapty_async" / "py.typed").is_file()
