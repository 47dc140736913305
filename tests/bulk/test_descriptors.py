"""A job whose process can't open another file: it has fewer requests in flight, and no item fails."""

import asyncio
import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from adapty_async import UNPACED, AdaptyConnectionError, AdaptyError, Response, bulk
from adapty_async.bulk import Outcome
from adapty_async.testing import Simulator
from tests.cli.served import environment, ids_file, served, settings_for

from ..virtual_time import virtual
from .scripted import NO_CONTENT
from .served import LENIENT, Serve, ids, served_client

PROFILES = 1000


def out_of_descriptors() -> AdaptyError:
    error = AdaptyConnectionError("no connection: too many open files", sent=False)
    error.errno = errno.EMFILE
    return error


def with_room_for(connections: int, refusals: list[float]) -> Serve:
    """Respond after 0.1 s. A request that needs more connections than are available is never sent."""
    in_flight = 0

    async def serve(since: float) -> Response | AdaptyError:
        nonlocal in_flight
        if in_flight >= connections:
            refusals.append(since)
            return out_of_descriptors()
        in_flight += 1
        try:
            await asyncio.sleep(0.1)
        finally:
            in_flight -= 1
        return NO_CONTENT

    return serve


def lowered(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "concurrency lowered" in record.getMessage()]


@virtual
async def test_a_job_that_runs_out_of_them_has_fewer_requests_in_flight_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals: list[float] = []
    client, _ = served_client(with_room_for(20, refusals))
    with caplog.at_level(logging.WARNING, "adapty_async"):
        report = await bulk.delete_profiles(client, ids(4000), by="customer_user_id", pacer=UNPACED, stop=LENIENT)
    assert report.counts == {Outcome.DELETED: 4000}
    # 80 at the start; after 30 s, the job, which takes 20 s, would check the limit again
    assert len(refusals) <= 80
    assert len(lowered(caplog)) == 1
    assert not [record for record in caplog.records if "parked" in record.getMessage()]


@virtual
async def test_where_no_request_can_leave_at_all_the_job_waits_as_in_an_outage_and_fails_nobody() -> None:
    refusals: list[float] = []

    async def serve(since: float) -> Response | AdaptyError:
        if since < 60.0:
            refusals.append(since)
            return out_of_descriptors()
        await asyncio.sleep(0.1)
        return NO_CONTENT

    client, _ = served_client(serve)
    report = await bulk.delete_profiles(client, ids(500), by="customer_user_id", pacer=UNPACED, stop=LENIENT)
    assert report.counts == {Outcome.DELETED: 500}
    assert len(refusals) < 250


def test_the_command_lowers_its_concurrency_to_the_limit_before_anything_fails(tmp_path: Path) -> None:
    with served(Simulator(profiles=PROFILES, latency=0.02)) as simulator:
        people = ids_file(tmp_path, PROFILES)
        delete = f"exec {sys.executable} -m adapty_async delete {people} --by customer_user_id --pace 100000 --yes"
        ended = subprocess.run(  # noqa: S603 - our own command
            ["/bin/sh", "-c", f"ulimit -n 64; {delete}"],
            env=environment(settings_for(simulator)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, len(simulator.profiles)) == (0, 0), ended.stderr
        assert ended.stderr.count("concurrency lowered") == 1
        assert "64 files (ulimit -n)" in ended.stderr
        assert ["retries", "0"] in [line.split()[:2] for line in ended.stdout.splitlines()]


_TAKEN_MEANWHILE = """
import asyncio, os, resource, sys
from adapty_async import AdaptyClient, UNPACED, bulk

async def main():
    async with AdaptyClient.from_env() as client:
        job = bulk.delete_profiles(client, open(sys.argv[1]).read().split()[1:], by="customer_user_id", pacer=UNPACED)
        # The rest of the process opens files while the job runs, all but ten of those that may be open.
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 10, 4096))
        report = await job
        print(dict(report.counts), report.retries < 200)

asyncio.run(main())
"""


def test_a_process_whose_descriptors_are_taken_meanwhile_deletes_everybody(tmp_path: Path) -> None:
    with served(Simulator(profiles=PROFILES, latency=0.02)) as simulator:
        people = ids_file(tmp_path, PROFILES)
        ended = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _TAKEN_MEANWHILE, str(people)],
            env=environment(settings_for(simulator)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert len(simulator.profiles) == 0, ended.stderr
        assert ended.stdout.startswith("{<Outcome.DELETED: 'deleted'>: 1000} True"), ended.stdout


_NAME_LOOKED_UP = """
import asyncio, os, resource, sys, uvloop
from adapty_async import AdaptyClient, AdaptyConnectionError, RetryPolicy

async def main():
    client = AdaptyClient("key", base_url="https://adapty.invalid", retry=RetryPolicy.none())
    # After that of an address, that of a name doesn't say what it lacks.
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 443)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    try:
        await client.profiles.delete(customer_user_id="u1")
    except AdaptyConnectionError as error:
        print(error, error.errno, error.sent)

(uvloop if sys.argv[1] == "uvloop" else asyncio).run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_name_that_cant_be_looked_up_without_one_is_no_fault_of_the_server(loop: str) -> None:
    ended = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _NAME_LOOKED_UP, loop], capture_output=True, text=True, check=False
    )
    wanted = f"no connection: too many open files; raise the limit (ulimit -n) {errno.EMFILE} False\n"
    assert ended.stdout == wanted, ended.stderr
