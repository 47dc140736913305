"""Flip bits of a ledger's files, and compare its contents and its resumption with those before.

A flip must either be detected, as a LedgerError with a message, or make no difference.
"""

import argparse
import asyncio
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import pytest

from adapty_async.bulk import Outcome
from adapty_async.ledger import LedgerError, LedgerReader, build_record
from tests import power
from tests.power import Server, ids, run_job

_SIZE: Final = 1300
_AT: Final = 700
"""Number of requests that have been sent when the files are copied."""
_DONE: Final = {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED, Outcome.ALREADY_ABSENT}
Said: TypeAlias = dict[str, Any]


@attrs.frozen
class Case:
    """A folder with the ledger of a killed job. `said`: its contents. `executed`: the deleted IDs."""

    folder: Path
    said: Said
    executed: frozenset[str]

    @property
    def files(self) -> list[str]:
        """The files in which bits are flipped, all equally often."""
        names = ("job.db", "job.db-wal", "job.db.key")
        return [name for name in names if (self.folder / name).exists() and (self.folder / name).stat().st_size]


def say(path: Path) -> Said:
    """Return the complete content of a ledger. Raises LedgerError."""
    with LedgerReader(path) as reader:
        record = json.loads(build_record(reader, items=_SIZE).as_json())
        return {
            "job": reader.job,
            "runs": reader.runs,
            "order": reader.job_options,
            "key": reader.last_key,
            "status": attrs.evolve(reader.status(), recent=0),
            "rows": list(reader.rows()),
            "digest": reader.digest(),
            "input": reader.input_digest(),
            "verification_results": list(reader.verification_results()),
            "find_rows": reader.find_rows("u1"),
            "rows_with_ids": [row.position for row, _ in reader.rows_with_ids(ids())],
            "record": record,
        }


def cases(folder: Path) -> list[Case]:
    """Create the ledger of a killed job, with and without a log."""
    with_log, without = folder / "with log", folder / "without log"
    executed: set[str] = set()
    then: set[str] = set()
    left = 0

    def copy(mark: tuple[str, str]) -> None:
        nonlocal left
        left += mark[0] == "left"
        if left == _AT and not with_log.exists():
            shutil.copytree(folder / "job", with_log, ignore=shutil.ignore_patterns("*-shm"))
            then.update(executed)

    (folder / "job").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapty_async.ledger.session._MAX_CLAIM_SIZE", 100)
        asyncio.run(run_job("delete", folder / "job" / "job.db", Server(1, executed, copy)))
    shutil.copytree(with_log, without)
    with LedgerReader(without / "job.db"):
        pass  # the last one to close it moves the log into it
    said = say(without / "job.db")
    return [Case(each, said, frozenset(then)) for each in (with_log, without)]


def violations(flips: int, seed: int) -> Iterator[str]:
    """Flip bits. Yield the violations, with their flips."""
    rng = random.Random(seed)  # noqa: S311 - repeatable
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(power, "ITEMS", _SIZE)
        known = cases(Path(name))
        for number in range(flips):
            case = known[number % len(known)]
            file = case.files[number // len(known) % len(case.files)]
            bit = rng.randrange(8 * (case.folder / file).stat().st_size)
            with tempfile.TemporaryDirectory() as copy:
                folder = Path(copy) / "job"
                shutil.copytree(case.folder, folder)
                flip(folder / file, bit)
                try:
                    is_last = file == "job.db-wal" and bit // 8 >= last_commit(case.folder / file)
                    check(case, folder / "job.db", number, may_lose_a_commit=is_last)
                except Exception as error:  # noqa: BLE001 - an internal error is a violation, too
                    yield f"{case.folder.name}, {file}, bit {bit}: {error!r}"


def flip(path: Path, bit: int) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def last_commit(log: Path) -> int:
    """Return the offset of the last commit's frames in a log."""
    data, frame = log.read_bytes(), 24 + 4096
    ends = [begin + frame for begin in range(32, len(data) - frame + 1, frame) if any(data[begin + 4 : begin + 8])]
    return ends[-2]


def check(case: Case, path: Path, number: int, *, may_lose_a_commit: bool) -> None:
    """Read a ledger and resume its job. Raises Violation, or any other exception if there is a bug."""
    is_noticed = False
    try:
        said = say(path)
    except LedgerError as error:
        is_noticed = True
        power.require(": " in str(error), f"a message without a remedy: {error}")
    else:
        # In the last commit, a flip can't be told from a power failure: the commit may be missing.
        is_same = said == case.said or (may_lose_a_commit and _is_earlier(said, case.said))
        power.require(is_same, f"the contents differ: {_differing(said, case.said)}")
    server = Server(number, set(case.executed), lambda _: None)
    try:
        asyncio.run(run_job("delete", path, server))
    except LedgerError as error:
        power.require(": " in str(error), f"a message without a remedy: {error}")
        power.require(not server.left, f"requests were sent before it was detected: {error}")
        return
    power.require(not is_noticed, "it was resumed although its readers refuse it")
    with LedgerReader(path) as reader:
        rows = list(reader.rows())
    power.require(len(rows) == _SIZE and {row.standing for row in rows} <= _DONE, "not everybody is done")
    power.require(server.executed >= set(ids()), "somebody is said to be deleted, and isn't")


def _is_earlier(said: Said, known: Said) -> bool:
    """Return True if this is the state before the last commit: fewer outcomes, and no different ones."""
    pairs = [(row, then) for row, then in zip(said["rows"], known["rows"], strict=True) if row != then]
    return all(row.outcome is None or row.claimed for row, _ in pairs)


def _differing(said: Said, known: Said) -> list[str]:
    return [name for name in said if said[name] != known[name]]


def main() -> None:
    """Read the arguments, flip bits, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=3000, help="number of flips (default: 3000)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = list(violations(arguments.flips, arguments.seed))
    print("\n".join(found))
    print(f"{arguments.flips} flips, {len(found)} violations")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
