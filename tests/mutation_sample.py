"""Change the ledger and the bulk engine in many small ways, one at a time, and count how many of them a test notices.

The mutants are mutmut's, and a seeded sample of them: its own run takes hours for these packages. Each is put into a
copy of the project, in which the tests of its package run until one fails.
"""

import argparse
import difflib
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs
from mutmut.mutation.file_mutation import create_mutations

if TYPE_CHECKING:
    import libcst as cst

REQUIRED: Final = 0.9
ROOT: Final = Path(__file__).parents[1]
PATIENCE: Final = 600.0
"""Seconds after which a mutant is one that hangs."""
# The fastest first: most mutants are noticed by these.
TESTS: Final = {
    "ledger": (
        *("ledger/chunks", "ledger/book", "ledger/record", "ledger/spool", "ledger/preparing", "ledger/inputs"),
        *("ledger/disk", "ledger/jobs", "cli/self_contained"),
    ),
    "bulk": (
        *("bulk/results", "bulk/admission", "bulk/restraint", "bulk/engine", "bulk/jobs", "bulk/pause", "bulk/canary"),
        *("bulk/endings", "bulk/time", "bulk/trouble"),
    ),
}
# What else is needed for a module, and takes long.
MORE_TESTS: Final = {
    "fence": ("ledger/lost",),
    "files": ("ledger/lost", "cli/trouble"),
    "identity": ("ledger/lost",),
    "log": ("ledger/flips",),
    "reading": ("cli/records",),
    "verify": ("ledger/lost", "cli/records"),
    "record": ("cli/records",),
    "jobs": ("ledger/jobs",),
    "journal": ("ledger/jobs",),
    "operations": ("ledger/jobs",),
}


@attrs.frozen
class Mutant:
    """A file of the project that differs in one place."""

    file: Path
    code: str
    changed: str

    @property
    def package(self) -> str:
        """The package whose tests are to notice it."""
        return self.file.parts[1]

    def diff(self) -> str:
        """Return what differs."""
        before, after = (text.splitlines(keepends=True) for text in (self.code, self.changed))
        return "".join(difflib.unified_diff(before, after, str(self.file), str(self.file), n=1))


def sampled(count: int, seed: int) -> tuple[list[Mutant], int]:
    """Return so many mutants of the packages, and the number of all."""
    files = [path for package in TESTS for path in sorted((ROOT / "adapty_async" / package).glob("*.py"))]
    parsed = {path: create_mutations(str(path), path.read_text(encoding="utf-8")) for path in files}
    everything = [(path, number) for path in files for number in range(len(parsed[path][1]))]
    chosen = random.Random(seed).sample(everything, min(count, len(everything)))  # noqa: S311 - repeatable
    found = []
    for path, number in chosen:
        module, mutations, *_ = parsed[path]
        mutation = mutations[number]
        changed = module.deep_replace(mutation.original_node, mutation.mutated_node)
        found.append(Mutant(path.relative_to(ROOT), module.code, cast("cst.Module", changed).code))
    return found, len(everything)


def selection(package: str, module: str | None = None) -> list[str]:
    """Name the test files of a module, or those of every module of a package."""
    names = (*TESTS[package], *MORE_TESTS.get(module or "", ()))
    return [f"tests/{folder}/test_{name}.py" for folder, _, name in (name.partition("/") for name in names)]


def is_noticed(copy: Path, mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Run tests on a copy of the project with a mutant in it; tell whether one fails."""
    if mutant is not None:
        (copy / mutant.file).write_text(mutant.changed, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(  # noqa: S603 - our own
        command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        return process.wait(PATIENCE) != 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    finally:
        if mutant is not None:
            (copy / mutant.file).write_text(mutant.code, encoding="utf-8")


def main() -> None:
    """Read the arguments, run the sample, print who survived; fail where too few were noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=600, help="so many mutants (default: 600)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="so many at one time (default: 2)")
    arguments = parser.parse_args()
    sample, total = sampled(arguments.mutants, arguments.seed)
    print(f"{len(sample)} of {total} mutants", flush=True)
    copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as threads:
        for number in range(arguments.jobs):
            copy = Path(folder) / str(number)
            for name in ("adapty_async", "tests", "benchmarks"):
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", copy)
            copies.put(copy)

        def run(mutant: Mutant | None, tests: Sequence[str]) -> bool:
            copy = copies.get()
            try:
                return is_noticed(copy, mutant, tests)
            finally:
                copies.put(copy)

        for package in TESTS:
            if run(None, selection(package)):
                raise SystemExit(f"the tests of {package} fail by themselves: {' '.join(selection(package))}")
        noticed = 0
        runs = threads.map(lambda mutant: (mutant, run(mutant, selection(mutant.package, mutant.file.stem))), sample)
        for number, (mutant, is_killed) in enumerate(runs, 1):
            noticed += is_killed
            if not is_killed:
                print(f"survived:\n{mutant.diff()}", flush=True)
            if not number % 20:
                print(f"{noticed} of {number} mutants noticed", flush=True)
    share = noticed / len(sample)
    print(f"{noticed} of {len(sample)} mutants noticed, {share:.1%}")
    raise SystemExit(share < REQUIRED)


if __name__ == "__main__":
    main()
