"""A temporary ledger works like one in a file, and leaves nothing behind however its process ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from adapty_async import UNPACED, AdaptyClient, bulk
from adapty_async.bulk import Outcome, SkippedItem
from adapty_async.bulk.api import job_spec
from adapty_async.bulk.job_store import JobSpec
from adapty_async.ledger import Ledger, LedgerError, LedgerReader, LedgerWriteError, Row, TemporaryLedger, prepare
from adapty_async.ledger.store import Store
from adapty_async.testing import Fault, Simulator
from tests.full_disk import full_disk
from tests.waiting import PATIENCE

JOB: Final = JobSpec("delete", "customer_user_id", "http://127.0.0.1", "f" * 8, is_repeatable=True)
LARGE: Final = 150_000
"""Number of items that don't fit in SQLite's cache."""


@pytest.fixture
def temporary() -> Iterator[TemporaryLedger]:
    with contextlib.closing(TemporaryLedger()) as ledger:
        yield ledger


def ids(count: int) -> Iterator[str]:
    return (f"u{number}" for number in range(count))


def plain(row: Row) -> Row:
    """Remove the values that differ between ledgers."""
    return attrs.evolve(row, hash=b"", at=None)


async def test_a_job_is_recorded_as_in_a_file(temporary: TemporaryLedger, tmp_path: Path) -> None:
    found: list[list[Row]] = []
    items: list[str | SkippedItem[str]] = [
        *ids(2500),
        SkippedItem("held", Outcome.EXCLUDED, exclude_list="held.csv"),
        SkippedItem("", Outcome.INVALID),
    ]
    for location in (temporary, tmp_path / "job.db"):
        async with Simulator() as sim, AdaptyClient(sim.api_key, base_url=sim.base_url) as client:
            for who in ids(2000):
                sim.add_profile(customer_user_id=who)
            sim.inject(Fault.REDIRECT, method="DELETE")
            prepare(location, job_spec(client, "delete", "customer_user_id"), items, job_options={}, file=None)
            report = await bulk.delete_profiles(
                client, items, by="customer_user_id", pacer=UNPACED, concurrency=1, ledger=Ledger(location)
            )
            assert (report.counts[Outcome.DELETED], report.counts[Outcome.FAILED]) == (1999, 1)
        with LedgerReader(location) as reader:
            found.append(list(map(plain, reader.rows())))
            assert reader.status().counts[Outcome.EXCLUDED] == reader.status().counts[Outcome.INVALID] == 1
            assert [run.ended is not None for run in reader.runs] == [True]
    assert found[0] == found[1]


def test_its_id_key_is_its_own_and_finds_an_id(temporary: TemporaryLedger) -> None:
    prepare(temporary, JOB, ["u1", "u2"], job_options={}, file=None)
    with contextlib.closing(TemporaryLedger()) as other:
        prepare(other, JOB, ["u1", "u2"], job_options={}, file=None)
        hashes = []
        for ledger in (temporary, other):
            with LedgerReader(ledger) as reader:
                (row,) = reader.find_rows("u2")
                hashes.append(row.hash)
    assert hashes[0] != hashes[1]


def test_a_transaction_that_fails_changes_nothing(temporary: TemporaryLedger) -> None:
    prepare(temporary, JOB, ids(2500), job_options={}, file=None)

    def change() -> None:
        with Store.open(temporary) as store, store.transaction():
            store.delete_presences()
            store._connection.execute("DELETE FROM chunk")  # noqa: SLF001 - no public call fails halfway
            raise LookupError

    with pytest.raises(LookupError):
        change()
    with LedgerReader(temporary) as reader:
        assert reader.status().waiting == 2500


def test_where_none_was_written_there_is_none(temporary: TemporaryLedger) -> None:
    with pytest.raises(LedgerError, match="there is no temporary ledger"):
        Store.open(temporary)


def test_an_input_that_cannot_be_read_writes_none(temporary: TemporaryLedger) -> None:
    def broken() -> Iterator[str]:
        yield from ids(LARGE)
        raise LookupError

    with pytest.raises(LookupError):
        prepare(temporary, JOB, broken(), job_options={}, file=None)
    with pytest.raises(LedgerError, match="there is no temporary ledger"):
        Store.open(temporary)


def test_a_generator_cannot_be_copied_beside_it(temporary: TemporaryLedger) -> None:
    with pytest.raises(ValueError, match="spool"):
        Ledger(temporary, spool=True)


def test_a_full_disk_is_said_with_its_folder(temporary: TemporaryLedger) -> None:
    with full_disk(1 << 20), pytest.raises(LedgerWriteError, match=r"the temporary ledger in .* make room") as error:
        prepare(temporary, JOB, ids(LARGE), job_options={}, file=None)
    assert os.path.isdir(str(error.value).split(" in ", 1)[1].split(" can't", 1)[0])  # noqa: PTH112


_FILLING: Final = f"""
import signal, sys
from tests.ledger.test_named_and_temporary import JOB, LARGE, ids
from adapty_async.ledger import TemporaryLedger, prepare
ledger = TemporaryLedger()
prepare(ledger, JOB, ids({LARGE}), job_options={{}}, file=None)
print(ledger.path, flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="an open file has a name there")
def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    settings = {**os.environ, "TMPDIR": str(tmp_path), "SQLITE_TMPDIR": ""}
    with subprocess.Popen([sys.executable, "-c", _FILLING], env=settings, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own interpreter
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"the temporary ledger in {tmp_path}\n"
            assert not list(tmp_path.iterdir())
            if sys.platform == "linux":
                links = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]  # noqa: PTH115
                assert [link for link in links if link.startswith(f"{tmp_path}/")]  # stored on disk
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells which files are open")
def test_what_it_takes_on_the_disk_is_given_back() -> None:
    with contextlib.closing(TemporaryLedger()) as ledger:
        prepare(ledger, JOB, ids(LARGE), job_options={}, file=None)
        assert len(_files_of_sqlite()) == 1
    assert not _files_of_sqlite()
    ledger.close()


def _files_of_sqlite() -> list[str]:
    """Return the temporary files of SQLite that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor used for this listing
            found.append(os.readlink(link))  # noqa: PTH115
    return [name for name in found if "etilqs" in name]
