"""The instructions for installing an extra name the source of the installed package."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from adapty_async import install_command
from adapty_async.install_command import format_install_command

ROOT = Path(__file__).parents[1]
GIT = {"vcs": "git", "commit_id": "4c30d3b"}


class Installed:
    """A distribution with the files that the installer wrote."""

    def __init__(self, direct_url: str | None) -> None:
        self._direct_url = direct_url

    def read_text(self, name: str) -> str | None:
        return self._direct_url if name == "direct_url.json" else None


def installed(monkeypatch: pytest.MonkeyPatch, direct_url: str | None) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: Installed(direct_url))


@pytest.mark.parametrize(
    ("direct_url", "command"),
    [
        ({"url": "file:///src/adapty", "dir_info": {}}, "pip install '/src/adapty[cli]'"),
        ({"url": "file:///src/ad%20apty", "dir_info": {"editable": True}}, "pip install '/src/ad apty[cli]'"),
        (
            {"url": "file:///dist/adapty_async-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install '/dist/adapty_async-0.1.0-py3-none-any.whl[cli]'",
        ),
        (
            {"url": "https://host/adapty_async-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'adapty-async[cli] @ https://host/adapty_async-0.1.0-py3-none-any.whl'",
        ),
        (
            {"url": "https://host/adapty.git", "vcs_info": {**GIT, "requested_revision": "v1"}},
            "pip install 'adapty-async[cli] @ git+https://host/adapty.git@v1'",
        ),
        (
            {"url": "ssh://git@host/adapty.git", "vcs_info": GIT, "subdirectory": "python"},
            "pip install 'adapty-async[cli] @ git+ssh://git@host/adapty.git@4c30d3b#subdirectory=python'",
        ),
        (
            {"url": "file:///src/adapty.git", "vcs_info": GIT},
            "pip install 'adapty-async[cli] @ git+file:///src/adapty.git@4c30d3b'",
        ),
        (
            {"url": "https://user:password@host/adapty.git", "vcs_info": GIT},
            "pip install 'adapty-async[cli] @ git+https://host/adapty.git@4c30d3b'",
        ),
    ],
)
def test_the_source_is_named(direct_url: Any, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, json.dumps(direct_url))
    assert format_install_command("cli") == command


@pytest.mark.parametrize(
    "direct_url", [None, "", "{", "[]", '{"url": 7}', '{"url": null}', '{"url": "https://x", "vcs_info": {}}']
)
def test_where_the_source_isnt_known_no_distribution_is_named(
    direct_url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, direct_url)
    assert format_install_command("cli") == f"pip install '{ROOT}[cli]'"
    monkeypatch.setattr(install_command, "_PROJECT_ROOT", tmp_path)
    assert (
        format_install_command("cli") == "pip install '.[cli]' in a clone of the repository that adapty-async came from"
    )


def test_a_package_that_wasnt_installed_names_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert format_install_command("parquet") == f"pip install '{ROOT}[parquet]'"
