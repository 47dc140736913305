"""The arrows of the design, compared with the imports of the files."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "adapty_async"

# A part is a module or a subpackage of adapty_async. It may import the listed parts, and whatever those may import.
ARROWS: dict[str, set[str]] = {
    "__init__": {"bulk", "client"},  # the public names
    "__main__": {"cli"},
    "cli": {"cli/app", "cli/core_dumps", "cli/lenient_stderr", "cli/signals", "install_command", "testing"},
    "cli/__main__": {"cli"},
    "cli/app": {"cli/commands"},
    "cli/commands": {"cli/command_runner", "cli/options", "cli/jobs"},
    "cli/command_runner": {"cli/options", "cli/output", "cli/signals"},
    "cli/jobs": {"cli/inputs", "cli/output", "cli/signals", "ledger", "client", "testing"},
    "cli/inputs": {"cli/options", "cli/exit_status", "bulk", "pluralization", "install_command"},
    "cli/output": {"cli/options", "cli/exit_status", "ledger"},
    "cli/options": {"cli/option_group_conversion"},
    "cli/option_group_conversion": set(),
    "cli/exit_status": set(),
    "cli/signals": set(),
    "cli/core_dumps": set(),
    "cli/lenient_stderr": set(),
    "ledger": {"bulk", "pluralization", "escaping"},
    "bulk": {"client", "http", "pacing"},
    "client": {"resources", "http"},
    "resources": {"models", "http"},
    "http": {"pacing", "errors", "mutable_twin"},
    "pacing": set(),
    "models": {"errors", "mutable_twin"},
    "errors": set(),
    "mutable_twin": set(),
    "pluralization": set(),
    "escaping": set(),
    "install_command": set(),
    "testing": set(),
    "testing/pytest_plugin": {"testing", "__init__", "client"},
}

# Which parts may import third-party and system modules; "" means every part.
KNOWN_TO: dict[str, set[str]] = {
    "attrs": {""},
    "cattrs": {"models/codec"},
    "tenacity": {"http/retry"},
    "typer": {"cli"},
    "rich": {"cli"},
    "uvloop": {"cli"},
    "pyarrow": {"cli"},
    "pytest": {"testing/pytest_plugin"},
    "pytest_asyncio": {"testing/pytest_plugin"},
    "sqlite3": {"ledger"},
    # The client only uses aiohttp's types of a session and its URLs, see below; the simulator uses the server side.
    "aiohttp": {"http/transport", "http/extra_responses", "client", "testing"},
    "aiohttp.web": {"testing"},
    "multidict": {"http/transport"},
    "yarl": {"http/transport", "http/base_url"},
    # Modules that pure parts must not import.
    "asyncio": {
        *("http/send_queue", "http/transport", "http/extra_responses", "http/deadline_timers", "http/sender"),
        *("bulk", "ledger", "cli", "testing"),
    },
    "socket": {"cli", "testing", "http/descriptor_limit"},
    "subprocess": {"cli"},
    "fcntl": {"pacing/shared", "ledger"},
    "threading": {"ledger", "pacing/shared"},
}


def part_of(module: str) -> str:
    """Return the part of a module such as 'adapty_async.bulk.engine', or '__init__' if it belongs to no part."""
    names = module.split(".")
    if len(names) > 2 and f"{names[1]}/{names[2]}" in ARROWS:
        return f"{names[1]}/{names[2]}"
    return names[1] if len(names) > 1 and names[1] in ARROWS else "__init__"


def module_of(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package.parent).with_suffix("").parts)


def imports_of(path: Path, package: Path) -> Iterator[str]:
    """Return the dotted names of everything a file imports: at the top, in functions and for type checkers."""
    module = module_of(path, package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                above = module.split(".")[: -node.level] if node.level else []
                source = ".".join([*above, *filter(None, [node.module])])
                yield from (f"{source}.{alias.name}" for alias in node.names)
            case ast.Call(
                func=ast.Name("__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(str(name)), *_],
            ):
                yield f"{package.name}{name}" if name.startswith(".") else name


def reach(part: str) -> set[str]:
    """Return everything that a part may import."""
    return {part} | {farther for near in ARROWS[part] for farther in reach(near)}


def places_of(module: str) -> set[str]:
    """Give the names by which KNOWN_TO may list a module: each folder that it is in, and itself."""
    names = module.split(".")[1:]
    return {"", *("/".join(names[: end + 1]) for end in range(len(names)))}


def is_allowed(module: str, name: str, package: Path) -> bool:
    if name.split(".")[0] == package.name:
        return part_of(name) in reach(part_of(module))
    owners = [owners for library, owners in KNOWN_TO.items() if f"{name}.".startswith(f"{library}.")]
    if not owners:
        return name.split(".")[0] in sys.stdlib_module_names
    return all(owner & places_of(module) for owner in owners)


def violations(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        module = module_of(path, package)
        part = part_of(module)
        if part in {"__init__", "cli"} and path != package / part.removeprefix("__init__") / "__init__.py":
            found.append(f"{module} has no arrows")
        found += [
            f"{module} imports {name}" for name in imports_of(path, package) if not is_allowed(module, name, package)
        ]
    return found


def modules_after(statement: str) -> set[str]:
    """Return the modules that a new interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    shown = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(shown.stdout.split())


def test_every_import_follows_an_arrow() -> None:
    assert violations(PACKAGE) == []


def test_the_client_knows_of_aiohttp_the_type_of_a_session_alone() -> None:
    tree = ast.parse((PACKAGE / "client.py").read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "aiohttp"
    }
    assert used == {"ClientSession"}


def test_the_public_names_load_neither_the_command_line_nor_the_simulator() -> None:
    unwanted = {"typer", "rich", "sqlite3", "aiohttp.web", "adapty_async.cli", "adapty_async.testing"}
    loaded = modules_after("from adapty_async import *")
    assert "aiohttp" in loaded
    assert not loaded & unwanted


def test_the_public_names_are_loaded_when_they_are_asked_for() -> None:
    ours = {name for name in modules_after("import adapty_async") if name.startswith(PACKAGE.name)}
    assert ours == {"adapty_async"}
    assert "aiohttp" not in modules_after("from adapty_async import RetryPolicy")


def test_the_modules_of_the_public_names_are_attributes_of_the_package() -> None:
    for module in ("bulk", "client", "errors", "http", "models", "pacing"):
        assert f"adapty_async.{module}" in modules_after(f"import adapty_async; adapty_async.{module}")


def test_the_public_names_are_those_that_type_checkers_see() -> None:
    package = importlib.import_module(PACKAGE.name)
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.name: importlib.import_module(f".{node.module or alias.name}", PACKAGE.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert seen.keys() == set(package.__all__)
    assert seen.keys() <= set(dir(package))
    for name, home in seen.items():
        assert getattr(package, name) is getattr(home, name, home)
    with pytest.raises(AttributeError, match="no attribute 'Unheard'"):
        _ = package.Unheard


@pytest.mark.parametrize("name", ["adapty_async", "adapty_async.bulk", "adapty_async.ledger", "adapty_async.testing"])
def test_what_a_package_names_is_there(name: str) -> None:
    package = importlib.import_module(name)
    assert [public for public in package.__all__ if not hasattr(package, public)] == []


def test_what_is_loaded_too_early_would_be_seen() -> None:
    assert {"aiohttp.web", "adapty_async.testing"} <= modules_after("from adapty_async.testing import Simulator")


@pytest.mark.parametrize(
    ("file", "source", "imported"),
    [
        ("models/profile.py", "from ..http.requests import Request", "adapty_async.http.requests.Request"),
        ("models/profile.py", "from adapty_async.client import AdaptyClient", "adapty_async.client.AdaptyClient"),
        ("errors.py", "import adapty_async.http.requests", "adapty_async.http.requests"),
        ("http/send_queue.py", "from .. import client", "adapty_async.client"),
        (
            "http/send_queue.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..client import X",
            "adapty_async.client.X",
        ),
        ("pacing/fixed.py", "def late():\n    from ..http.retry import X", "adapty_async.http.retry.X"),
        ("client.py", "from .bulk.engine import BulkJob", "adapty_async.bulk.engine.BulkJob"),
        ("resources/profiles.py", "from ..bulk.api import X", "adapty_async.bulk.api.X"),
        ("bulk/engine.py", "from ..testing import Simulator", "adapty_async.testing.Simulator"),
        ("bulk/engine.py", "import importlib\nimportlib.import_module('adapty_async.cli')", "adapty_async.cli"),
        ("bulk/engine.py", "from adapty_async import AdaptyClient", "adapty_async.AdaptyClient"),
        ("testing/server.py", "from ..http.requests import Request", "adapty_async.http.requests.Request"),
        ("testing/server.py", "import adapty_async", "adapty_async"),
        ("resources/profiles.py", "import aiohttp", "aiohttp"),
        ("http/retry.py", "import aiohttp", "aiohttp"),
        ("http/transport.py", "from aiohttp import web", "aiohttp.web"),
        ("client.py", "import cattrs", "cattrs"),
        ("models/profile.py", "import cattrs", "cattrs"),
        ("bulk/engine.py", "from tenacity import retry", "tenacity.retry"),
        ("bulk/engine.py", "import rich.progress", "rich.progress"),
        ("bulk/api.py", "import importlib\nimportlib.import_module('pyarrow')", "pyarrow"),
        ("pacing/fixed.py", "import asyncio", "asyncio"),
        ("http/retry.py", "import asyncio", "asyncio"),
        ("errors.py", "import requests", "requests"),
        ("cli/jobs/start.py", "from ..commands.delete import delete", "adapty_async.cli.commands.delete.delete"),
        ("cli/inputs/input_types.py", "from ..output.progress import X", "adapty_async.cli.output.progress.X"),
        ("cli/output/progress_screen.py", "from ..jobs.ledger_job import X", "adapty_async.cli.jobs.ledger_job.X"),
        ("cli/inputs/input_types.py", "from ...ledger import Ledger", "adapty_async.ledger.Ledger"),
        ("cli/options.py", "from .jobs.job_options import X", "adapty_async.cli.jobs.job_options.X"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, source: str, imported: str) -> None:
    planted = tmp_path / PACKAGE.name / file
    planted.parent.mkdir(parents=True)
    planted.write_text(source, encoding="utf-8")
    module = f"{PACKAGE.name}.{file.removesuffix('.py').replace('/', '.')}"
    assert violations(tmp_path / PACKAGE.name) == [f"{module} imports {imported}"]


def test_a_new_part_without_arrows_is_found(tmp_path: Path) -> None:
    package = tmp_path / PACKAGE.name
    (package / "cli").mkdir(parents=True)
    (package / "cli" / "helpers.py").touch()
    (package / "webhooks.py").touch()
    assert violations(package) == [
        "adapty_async.cli.helpers has no arrows",
        "adapty_async.webhooks has no arrows",
    ]


def test_what_the_arrows_allow_is_no_violation(tmp_path: Path) -> None:
    package = tmp_path / PACKAGE.name
    (package / "bulk").mkdir(parents=True)
    (package / "testing").mkdir()
    (package / "bulk" / "api.py").write_text("from ..client import X\nfrom ..models import Y\nfrom .engine import Z\n")
    (package / "testing" / "pytest_plugin.py").write_text("from adapty_async import X\nfrom .simulator import Y\n")
    (package / "testing" / "server.py").write_text("import json\nfrom aiohttp import web\n")
    assert violations(package) == []
