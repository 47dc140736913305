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

from ...client import AdaptyClient, get_sender
from ...escaping import dump_json, escape_line
from ...http.descriptor_limit import get_descriptor_limit, get_max_connections
from ...ledger.store import SQLITE_VERSION
from ...pluralization import format_count
from ..exit_status import CommandError, ExitStatus
from ..output.standard_streams import print_to_stdout
from ..signals import run_event_loop
from .app_check import check_api_key
from .client_from_env import create_client_from_env, read_base_url_from_env
from .connectivity import Connectivity, check_connectivity
from .pace import find_state_file

_MIN_KEY_LENGTH: Final = 16
_DEFAULT_CONCURRENCY: Final = 100
_TIMEOUT_SECONDS: Final = 10.0
_NOT_CONFIRMED: Final = "hasn't confirmed it: try again later"
_GROUP_AND_OTHERS_BITS: Final = stat.S_IRWXG | stat.S_IRWXO
_MIN_SQLITE_VERSION: Final = (3, 35, 0)
_MIN_FREE_BYTES: Final = 200 * 1024 * 1024
"""Bytes, enough for the ledger of ten million rows."""
_PACKAGES: Final = ("adapty-async", "aiohttp", "attrs", "cattrs", "tenacity", "typer", "rich")
_SUPPORTED_PLATFORMS: Final = ("linux", "darwin")


@attrs.frozen
class Check:
    """The result of a check.

    `text`: the value found, or how to fix the problem. `status`: the exit status of a failed check.
    """

    name: str
    is_ok: bool
    text: str
    status: ExitStatus = ExitStatus.FAILED


class _CheckFailedError(Exception):
    """A check failed. The message explains how to fix the problem."""


def diagnose(*, as_json: bool) -> ExitStatus:
    """Run all checks and show the results."""
    checks = list(_run_checks())
    statuses = [ExitStatus.OK if check.is_ok else check.status for check in checks]
    if as_json:
        is_ok = all(check.is_ok for check in checks)
        results = [{"name": check.name, "ok": check.is_ok, "text": check.text} for check in checks]
        print_to_stdout(dump_json({"ok": is_ok, "checks": results}, indent=2))
    else:
        for check in checks:
            print_to_stdout(f"{'ok' if check.is_ok else 'problem':<9}{check.name:<10}{escape_line(check.text)}")
    return ExitStatus.pick_by_precedence(statuses)


def _run_checks() -> Iterator[Check]:
    connectivity = _try_connectivity()
    yield _check_key(is_server_reached=connectivity is not None and connectivity.http.is_ok)
    yield _run_check("address", read_base_url_from_env)
    yield from () if connectivity is None else _iter_network_checks(connectivity)
    yield _run_check("sqlite", _check_sqlite)
    yield _run_check("disk", _check_disk)
    yield _run_check("state", _check_state_folder)
    yield _run_check("files", _check_file_limit)
    yield _run_check("system", _check_platform)
    yield _run_check("versions", _format_versions)


def _run_check(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except (_CheckFailedError, CommandError) as problem:
        return Check(name, False, str(problem))


def _check_key(*, is_server_reached: bool) -> Check:
    """Check the format of the key. If the server is reachable, also check that it accepts the key."""
    try:
        client = create_client_from_env(timeout=_TIMEOUT_SECONDS)
        text = _check_key_format(client)
        if is_server_reached:
            is_accepted = run_event_loop(lambda _: check_api_key(client))
            text += f"; Adapty {'accepts it' if is_accepted else _NOT_CONFIRMED}"
    except CommandError as problem:  # may also be about the address
        is_key = problem.status is ExitStatus.CREDENTIALS
        return Check("key", False, str(problem), problem.status if is_key else ExitStatus.FAILED)
    except _CheckFailedError as problem:
        return Check("key", False, str(problem), ExitStatus.CREDENTIALS)
    file = os.environ.get("ADAPTY_API_KEY_FILE")
    if file and _is_readable_by_others(Path(file)):
        return Check("key", False, "other users can read the file of ADAPTY_API_KEY_FILE: run chmod 600 on it")
    return Check("key", True, text)


def _check_key_format(client: AdaptyClient) -> str:
    transport = get_sender(client).transport
    (key,) = transport.secrets  # not read again, because the file may be a pipe
    where = "the file of ADAPTY_API_KEY_FILE" if os.environ.get("ADAPTY_API_KEY_FILE") else "ADAPTY_API_KEY"
    if key.startswith("public_"):
        raise _CheckFailedError(
            f"{where} contains a public key, which is for apps: set it to the secret key of the app"
        )
    if len(key) < _MIN_KEY_LENGTH:
        raise _CheckFailedError(
            f"{where} contains {format_count(len(key), 'character')}, too few for a key: copy the secret key again"
        )
    return f"{where} contains a key of {len(key)} characters with the fingerprint {transport.key_fingerprint}"


def _is_readable_by_others(file: Path) -> bool:
    with contextlib.suppress(OSError):  # the file may be gone
        mode = file.stat().st_mode
        return stat.S_ISREG(mode) and bool(mode & _GROUP_AND_OTHERS_BITS)
    return False


def _try_connectivity() -> Connectivity | None:
    try:
        return check_connectivity(read_base_url_from_env())
    except CommandError:
        return None


def _iter_network_checks(connectivity: Connectivity) -> Iterator[Check]:
    yield Check("dns", connectivity.dns.is_ok, connectivity.dns.text)
    yield Check("tls", connectivity.tls.is_ok, connectivity.tls.text)
    yield Check("http", connectivity.http.is_ok, connectivity.http.text)
    yield Check("clock", connectivity.clock.is_ok, connectivity.clock.text)


def _check_sqlite() -> str:
    version = ".".join(map(str, SQLITE_VERSION))
    if SQLITE_VERSION < _MIN_SQLITE_VERSION:
        raise _CheckFailedError(f"{version} is too old for a ledger: install a newer Python")
    return version


def _check_disk() -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=".", prefix=".adapty-doctor-"):
            free = shutil.disk_usage(".").free
    except OSError as error:
        reason = error.strerror
    else:
        if free < _MIN_FREE_BYTES:
            raise _CheckFailedError(f"{free / 1e6:,.0f} MB are free in this folder: make room for the ledger of a job")
        return f"{free / 1e9:,.1f} GB free in this folder"
    raise _CheckFailedError(
        f"this folder can't be written ({reason}): ledgers are created next to inputs: use another folder"
    )


def _check_state_folder() -> str:
    file = find_state_file(AdaptyClient("any", base_url=read_base_url_from_env()))
    if file is None:
        raise _CheckFailedError("there is no folder to store the rate limit of a key in: set HOME")
    folder = file.parent
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _CheckFailedError(f"{existing} can't be written, so commands can't share a limit: set XDG_STATE_HOME")
    return f"commands share rate limits in {folder}"


def _check_file_limit() -> str:
    limit, connections = get_descriptor_limit(), get_max_connections()
    if connections < _DEFAULT_CONCURRENCY:
        raise _CheckFailedError(
            f"a process may open {limit:.0f} files, so a job has at most {connections:.0f} requests in flight: "
            "type ulimit -n 1024"
        )
    return "no limit of open files" if math.isinf(limit) else f"a process may open {limit:,.0f} files"


def _check_platform() -> str:
    if sys.platform not in _SUPPORTED_PLATFORMS:
        raise _CheckFailedError(f"the command line is for Linux and macOS, and this is {platform.system()}")
    return f"{platform.system()} {platform.release()}"


def _format_versions() -> str:
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {_get_version(name)}" for name in _PACKAGES)])


def _get_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
