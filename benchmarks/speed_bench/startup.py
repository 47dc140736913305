"""Startup times: of imports, of the help of the command, and until its first request.

Each is measured in a process of its own. The times of imports don't include the start of the interpreter; the others
do.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from adapty_async.testing import prefilled_customer_user_id
from benchmarks.speed_bench.part import Part, table
from benchmarks.speed_bench.rounds import ROOT, Figures, Rounds, take_turns

_PATIENCE: Final = 60.0
_IMPORTS: Final = {
    "import adapty_async": "import adapty_async",
    "import adapty_async, all of it": "from adapty_async import *",
    "import adapty_async, AdaptyClient and bulk": "from adapty_async import AdaptyClient, bulk",
    "import aiohttp, attrs, cattrs, tenacity": "import aiohttp, attrs, cattrs, tenacity",
}
_OURS, *_, _THEIRS = _IMPORTS


def import_time(statement: str) -> float:
    """Return the seconds that an import takes in a new interpreter."""
    program = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    said = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, cwd=ROOT)  # noqa: S603 - our own interpreter
    return float(said.stdout)


def help_time() -> float:
    """Return the seconds until the help of the command is printed."""
    began = time.perf_counter()
    subprocess.run([*_COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)  # noqa: S603 - our own
    return time.perf_counter() - began


def first_request_time() -> float:
    """Return the seconds from the start of a small deletion until the first byte of its first request."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_PATIENCE)
        people = Path(folder, "people.csv")
        people.write_text("\n".join(["customer_user_id", *map(prefilled_customer_user_id, range(10))]), "utf-8")
        began = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - our own
            [*_COMMAND, "delete", str(people), "--by", "customer_user_id", "--yes"],
            cwd=ROOT,
            env=_settings(f"http://127.0.0.1:{server.getsockname()[1]}", folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(_PATIENCE)
                connection.recv(1)
                return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()


_COMMAND: Final = (sys.executable, "-m", "adapty_async")


def _settings(url: str, home: str) -> dict[str, str]:
    """Return the environment that directs the command to a server and away from remembered limits of other jobs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ADAPTY_", "XDG_"))}
    return {**inherited, "HOME": home, "ADAPTY_API_KEY": "secret_live_benchmark", "ADAPTY_BASE_URL": url}


WAYS: Final[Mapping[str, Callable[[], float]]] = {
    **{name: partial(import_time, statement) for name, statement in _IMPORTS.items()},
    "adapty-async --help": help_time,
    "adapty-async delete, until its first request": first_request_time,
}


def part(rounds: int) -> Part:
    """Run all in turn."""

    def measure(way: str) -> Figures:
        return {"ms": WAYS[way]() * 1e3}

    found = take_turns(WAYS, rounds, measure)
    return Part(
        title="Startup",
        says=f"{rounds} processes of each, in turn. The times of imports don't include the start of the interpreter; "
        "those of the command do.",
        table=table(["", "ms", f"/ {_THEIRS}"], [_row(way, found) for way in WAYS]),
        figures={"import": found.ratio("ms", _OURS, _THEIRS)},
    )


def _row(way: str, found: Rounds) -> list[str]:
    compared = f"{found.ratio('ms', way, _THEIRS):.2f}" if way in _IMPORTS else ""
    return [way, f"{found.median('ms', way):.0f}", compared]
