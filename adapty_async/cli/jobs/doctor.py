"""The command `doctor`: check this machine, the network and the key, one line per check."""

import contextlib
import math
import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import attrs

from ...client import AdaptyClient, sender_of
from ...escaping import one_line, to_json
from ...http.descriptors import descriptor_limit, max_connections
from ...ledger.store import SQLITE_VERSION
from ..exit_codes import CommandError, ExitStatus
from ..output.streams import show
from ..signals import run_event_loop
from .client import address_of_environment, client_of_environment
from .connectivity import Reached, reach
from .pace import state_file
from .probe import check_key

_SHORTEST_KEY: Final = 16
_DEFAULT_CONCURRENCY: Final = 100
_TIMEOUT: Final = 10.0
_UNKNOWN: Final = "hasn't confirmed it: try again later"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OLDEST_SQLITE: Final = (3, 35, 0)
_LEAST_ROOM: Final = 200 * 1024 * 1024
"""Bytes, enough for the ledger of ten million rows."""
_PACKAGES: Final = ("adapty-async", "aiohttp", "attrs", "cattrs", "tenacity", "typer", "rich")
_SYSTEMS: Final = ("linux", "darwin")


@attrs.frozen
class Check:
    """The result of a check.

    `text`: the value found, or how to fix the problem. `status`: the exit status of a failed check.
    """

    name: str
    ok: bool
    text: str
    status: ExitStatus = ExitStatus.FAILED


class _ProblemError(Exception):
    """A check failed. The message explains how to fix the problem."""


def doctor(*, as_json: bool) -> ExitStatus:
    """Run all checks and show the results."""
    checks = list(_checks())
    statuses = [ExitStatus.DONE if check.ok else check.status for check in checks]
    if as_json:
        is_well = all(check.ok for check in checks)
        told = [{"name": check.name, "ok": check.ok, "text": check.text} for check in checks]
        show(to_json({"ok": is_well, "checks": told}, indent=2))
    else:
        for check in checks:
            show(f"{'ok' if check.ok else 'problem':<9}{check.name:<10}{one_line(check.text)}")
    return ExitStatus.first_of(statuses)


def _checks() -> Iterator[Check]:
    reached = _reached()
    yield _key_check(is_server_reached=reached is not None and reached.http.ok)
    yield _checked("address", address_of_environment)
    yield from () if reached is None else _network(reached)
    yield _checked("sqlite", _sqlite)
    yield _checked("disk", _disk)
    yield _checked("state", _state)
    yield _checked("files", _files)
    yield _checked("system", _system)
    yield _checked("versions", _versions)


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except (_ProblemError, CommandError) as problem:
        return Check(name, False, str(problem))


def _key_check(*, is_server_reached: bool) -> Check:
    """Check the format of the key. If the server is reachable, also check that it accepts the key."""
    try:
        client = client_of_environment(timeout=_TIMEOUT)
        text = _key(client)
        if is_server_reached:
            is_accepted = run_event_loop(lambda _: check_key(client))
            text += f"; Adapty {'accepts it' if is_accepted else _UNKNOWN}"
    except CommandError as problem:  # may also be about the address
        is_key = problem.status is ExitStatus.CREDENTIALS
        return Check("key", False, str(problem), problem.status if is_key else ExitStatus.FAILED)
    except _ProblemError as problem:
        return Check("key", False, str(problem), ExitStatus.CREDENTIALS)
    file = os.environ.get("ADAPTY_API_KEY_FILE")
    if file and _others_may_read(Path(file)):
        return Check("key", False, "other users can read the file of ADAPTY_API_KEY_FILE: run chmod 600 on it")
    return Check("key", True, text)


def _key(client: AdaptyClient) -> str:
    transport = sender_of(client).transport
    (key,) = transport.secrets  # not read again, because the file may be a pipe
    where = "the file of ADAPTY_API_KEY_FILE" if os.environ.get("ADAPTY_API_KEY_FILE") else "ADAPTY_API_KEY"
    if key.startswith("public_"):
        raise _ProblemError(f"{where} contains a public key, which is for apps: set it to the secret key of the app")
    if len(key) < _SHORTEST_KEY:
        raise _ProblemError(f"{where} contains {len(key)} characters, too few for a key: copy the secret key again")
    return f"{where} contains a key of {len(key)} characters with the fingerprint {transport.key_fingerprint}"


def _others_may_read(file: Path) -> bool:
    with contextlib.suppress(OSError):  # the file may be gone
        mode = file.stat().st_mode
        return stat.S_ISREG(mode) and bool(mode & _OTHERS)
    return False


def _reached() -> Reached | None:
    try:
        return reach(address_of_environment())
    except CommandError:
        return None


def _network(reached: Reached) -> Iterator[Check]:
    yield Check("dns", reached.dns.ok, reached.dns.text)
    yield Check("tls", reached.tls.ok, reached.tls.text)
    yield Check("http", reached.http.ok, reached.http.text)
    yield Check("clock", reached.clock.ok, reached.clock.text)


def _sqlite() -> str:
    version = ".".join(map(str, SQLITE_VERSION))
    if SQLITE_VERSION < _OLDEST_SQLITE:
        raise _ProblemError(f"{version} is too old for a ledger: install a newer Python")
    return version


def _disk() -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=".", prefix=".adapty-doctor-"):
            free = shutil.disk_usage(".").free
    except OSError as error:
        reason = error.strerror
    else:
        if free < _LEAST_ROOM:
            raise _ProblemError(f"{free / 1e6:,.0f} MB are free in this folder: make room for the ledger of a job")
        return f"{free / 1e9:,.1f} GB free in this folder"
    raise _ProblemError(
        f"this folder can't be written ({reason}): ledgers are created next to inputs: use another folder"
    )


def _state() -> str:
    file = state_file(AdaptyClient("any", base_url=address_of_environment()))
    if file is None:
        raise _ProblemError("there is no folder to store the rate limit of a key in: set HOME")
    folder = file.parent
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _ProblemError(f"{existing} can't be written, so commands can't share a limit: set XDG_STATE_HOME")
    return f"commands share rate limits in {folder}"


def _files() -> str:
    limit, connections = descriptor_limit(), max_connections()
    if connections < _DEFAULT_CONCURRENCY:
        raise _ProblemError(
            f"a process may open {limit:.0f} files, so a job has at most {connections:.0f} requests in flight: "
            "type ulimit -n 1024"
        )
    return "no limit of open files" if math.isinf(limit) else f"a process may open {limit:,.0f} files"


def _system() -> str:
    if sys.platform not in _SYSTEMS:
        raise _ProblemError(f"the command line is for Linux and macOS, and this is {platform.system()}")
    return f"{platform.system()} {platform.release()}"


def _versions() -> str:
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)])


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
