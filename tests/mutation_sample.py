"""Change the ledger and the bulk engine in many small ways, one at a time, and count the changes that a test notices.

The mutants are a seeded sample of mutmut's: all of them would take hours for these packages. The tests are collected
once, and run once to measure which of them cover which lines. Each mutant is then put into a fork of that process, as
the code of the function that it changes. Only the tests that cover it run, the fastest first. A mutant outside a
function can't be put in later, so it gets a process of its own. A mutant that no test covers survives.
"""

import argparse
import ast
import contextlib
import difflib
import gc
import inspect
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Final, cast

import attrs
import coverage
import pytest
from _pytest.runner import runtestprotocol
from mutmut.mutation.file_mutation import create_mutations

if TYPE_CHECKING:
    import libcst as cst

REQUIRED: Final = 0.9
ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("ledger", "bulk")
TESTS: Final = (
    *("tests/ledger", "tests/bulk"),
    *(f"tests/cli/jobs/test_{name}.py" for name in ("self_contained", "ledger_commands", "ledger_errors")),
)
# Each of their tests consists of many whole jobs, and takes the complete time of a mutant.
SLOW: Final = tuple(f"--ignore=tests/ledger/test_{name}.py" for name in ("faults", "flips", "kill", "power"))
OPTIONS: Final = (
    *("-q", "-x", "-p", "no:cacheprovider", "-p", "tests.mutation_plugin", "--hypothesis-profile=sample"),
    # A fork doesn't reach the end of the run, where pytest would remove the folders.
    *("-o", "tmp_path_retention_policy=none"),
)
NAMES: Final = "tests/test_architecture.py::test_what_a_package_names_is_there"
"""Covers an import, and the names in it."""
ENOUGH: Final = 20.0
"""Seconds of tests after which an unnoticed mutant has survived."""
MOST_MEMORY: Final = 4 << 30
"""Bytes. An endless loop may allocate memory."""


@attrs.frozen
class Mutant:
    """A file of the project that differs in one place."""

    file: Path
    code: str
    changed: str

    @property
    def path(self) -> str:
        """The path of the file."""
        return str(ROOT / self.file)

    @property
    def statements(self) -> list[ast.stmt]:
        """The statements that differ, from the outermost class or function to the innermost statement."""
        lines = zip(self.code.splitlines(), self.changed.splitlines(), strict=False)
        place = next(number for number, (before, after) in enumerate(lines, 1) if before != after)
        around = [
            node
            for node in ast.walk(ast.parse(self.code))
            if isinstance(node, ast.stmt) and node.lineno <= place <= (node.end_lineno or 0)
        ]
        return sorted(around, key=lambda node: (node.lineno, -(node.end_lineno or 0)))

    @property
    def names(self) -> set[str]:
        """The names that the changed statement assigns, and the class around it."""
        classes = {node.name for node in self.statements if isinstance(node, ast.ClassDef)}
        nodes = ast.walk(self.statements[-1])
        return classes | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}

    def diff(self) -> str:
        """Return the difference."""
        before, after = (text.splitlines(keepends=True) for text in (self.code, self.changed))
        return "".join(difflib.unified_diff(before, after, str(self.file), str(self.file), n=1))


def sampled(count: int, seed: int) -> tuple[list[Mutant], int]:
    """Return this many mutants of the packages, and the total number."""
    files = [path for package in PACKAGES for path in sorted((ROOT / "adapty_async" / package).glob("*.py"))]
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


@attrs.frozen
class Coverage:
    """The tests that run each line, the seconds that each test takes, and the code of each test."""

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]
    codes: dict[str, str]

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the changed code."""
        return self._sorted(self._running(mutant))

    def of_users(self, mutant: Mutant) -> list[str]:
        """Return the tests of the changed code. If only the import runs it, return those that run or name its users."""
        return self.of(mutant) or self._sorted(self._using(mutant))

    def quickest(self) -> list[str]:
        """Return the hundred fastest tests."""
        return sorted(self.seconds, key=self.seconds.__getitem__)[:100]

    def _running(self, mutant: Mutant) -> Iterator[str]:
        statement = mutant.statements[-1]
        last = statement.end_lineno or 0
        body: list[ast.stmt] = getattr(statement, "body", [])
        if body and not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            last = max(statement.lineno, body[0].lineno - 1)  # its header
        covered = self.lines.get(mutant.path, {})
        for line in range(statement.lineno, last + 1):
            yield from covered.get(line, ())

    def _using(self, mutant: Mutant) -> Iterator[str]:
        public = {name for name in mutant.names if not name.startswith("_")}
        for path, covered in self.lines.items():
            is_used = _any_of(mutant.names if path == mutant.path else public)
            for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
                if number in covered and is_used(line):
                    yield from covered[number]
        is_used = _any_of(public)
        yield from (test for test, code in self.codes.items() if is_used(code))

    def _sorted(self, tests: Iterable[str]) -> list[str]:
        """Remove the lines that ran outside of a test. Sort the fastest first, with equal time for each file."""
        so_far: defaultdict[str, float] = defaultdict(float)
        ranked = []
        for test in sorted(self.seconds.keys() & set(tests), key=self.seconds.__getitem__):
            file, *_ = test.partition("::")
            so_far[file] += self.seconds[test]
            ranked.append((so_far[file], test))
        chosen, spent = [], 0.0
        for _, test in sorted(ranked):
            if spent < ENOUGH:
                chosen.append(test)
            spent += self.seconds[test]
        return chosen


def _any_of(names: set[str]) -> Callable[[str], re.Match[str] | None]:
    return re.compile(rf"\b({'|'.join(map(re.escape, names)) or '$^'})\b").search


class Forks:
    """A pytest plugin that runs the collected tests on each mutant instead of once."""

    def __init__(self, mutants: Sequence[Mutant], folder: Path) -> None:
        self.noticed = 0
        self._mutants = mutants
        self._folder = folder
        self._screen = os.fdopen(os.dup(1), "w")  # pytest captures the output

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests on each mutant."""
        self._items = {item.nodeid: item for item in session.items}
        gc.unfreeze()  # conftest.py froze the functions, and the collector doesn't list frozen objects
        self._functions = _functions()
        self._coverage = self._covered()
        slow = 0
        for number, mutant in enumerate(self._mutants, 1):
            status = self._run(mutant)
            self.noticed += status != 0
            slow += status == -signal.SIGALRM
            if not status:
                self._print(f"survived:\n{mutant.diff()}")
            if not number % 20:
                self._print(f"{self.noticed} of {number} mutants noticed, {slow} of them by a timeout")
                self._check_itself()
        return True

    def _check_itself(self) -> None:
        """Raise SystemExit if tests fail in an unchanged fork, because then they would notice every mutant."""
        if _forked(lambda: self._passes([], self._coverage.quickest())) != 0:
            raise SystemExit("the tests fail in a fork without a change")

    def _print(self, text: str) -> None:
        print(text, file=self._screen, flush=True)

    def _covered(self) -> Coverage:
        """Run all tests once in a fork, which leaves this process unchanged."""
        data = str(self._folder / "coverage")
        timings = self._folder / "seconds"
        if _forked(lambda: self._measure(data, timings)) != 0:
            raise SystemExit("no test passes")
        found = coverage.CoverageData(data)
        found.read()
        lines = {path: found.contexts_by_lineno(path) for path in found.measured_files()}
        codes = {
            name: inspect.getsource(item.function)
            for name, item in self._items.items()
            if isinstance(item, pytest.Function)
        }
        return Coverage(lines, json.loads(timings.read_text(encoding="utf-8")), codes)

    def _measure(self, data: str, timings: Path) -> bool:
        measuring = coverage.Coverage(data_file=data, source=["adapty_async"], config_file=False)
        seconds = {}
        measuring.start()
        for item, following in _paired(list(self._items.values())):
            measuring.switch_context(item.nodeid)
            start = time.perf_counter()
            if failures := _failures(item, following):
                self._print(f"excluded, because it fails without a mutant:\n{failures}")
            else:
                seconds[item.nodeid] = time.perf_counter() - start
        measuring.stop()
        measuring.save()
        timings.write_text(json.dumps(seconds), encoding="utf-8")
        return bool(seconds)

    def _run(self, mutant: Mutant) -> int:
        """Return 0 if a mutant isn't noticed, otherwise the exit status of the run."""
        found = [
            (function, code)
            for code in _codes(compile(mutant.changed, mutant.path, "exec", dont_inherit=True))
            for function in self._functions[mutant.path, code.co_qualname, code.co_firstlineno]
            if function.__code__ != code
        ]
        if not found or any(function.__code__.co_freevars != code.co_freevars for function, code in found):
            return self._run_anew(mutant)
        tests = self._coverage.of(mutant)
        return _forked(lambda: self._passes(found, tests))

    def _passes(self, changes: Sequence[tuple[FunctionType, CodeType]], tests: Sequence[str]) -> bool:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        for function, code in changes:
            function.__code__ = code
        for item, following in _paired([self._items[test] for test in tests]):
            # The signal ends the process.
            signal.setitimer(signal.ITIMER_REAL, _patience(self._coverage.seconds[item.nodeid]))
            if _failures(item, following):
                return False
        return True

    def _run_anew(self, mutant: Mutant) -> int:
        """Run the tests in a copy of the project."""
        copy = self._folder / "copy"
        if not copy.exists():
            for name in ("adapty_async", "tests", "benchmarks"):
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", copy)
        tests = self._coverage.of_users(mutant)
        patience = _patience(sum(map(self._coverage.seconds.__getitem__, tests)))
        (copy / mutant.file).write_text(mutant.changed, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", *OPTIONS, NAMES, *tests]
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            return subprocess.run(  # noqa: S603 - our own
                command, cwd=copy, env=environment, capture_output=True, check=False, timeout=patience
            ).returncode
        except subprocess.TimeoutExpired:
            return -signal.SIGALRM
        finally:
            (copy / mutant.file).write_text(mutant.code, encoding="utf-8")


def _functions() -> defaultdict[tuple[str, str, int], list[FunctionType]]:
    """Return the functions of this process by the location of their code."""
    found: defaultdict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
    for function in gc.get_objects():
        if isinstance(function, FunctionType):
            code = function.__code__
            found[code.co_filename, code.co_qualname, code.co_firstlineno].append(function)
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _paired(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip(items, (*items[1:], None), strict=True)


def _failures(item: pytest.Item, following: pytest.Item | None) -> str:
    reports = runtestprotocol(item, nextitem=following, log=False)
    return "\n".join(f"{item.nodeid}: {report.longreprtext}" for report in reports if report.failed)


def _patience(seconds: float) -> float:
    """Return the time limit of a test that normally takes `seconds`."""
    return 10 + 10 * seconds


def _forked(passes: Callable[[], bool]) -> int:
    """Run this in a fork. Return 0 if it passes, otherwise the exit status of the fork."""
    fork = os.fork()
    if not fork:
        status = 1
        try:
            os.setpgid(0, 0)
            status = not passes()
        finally:
            os._exit(status)
    _, status = os.waitpid(fork, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(fork, signal.SIGKILL)  # its child processes
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Read the arguments, run the sample, and print the survivors. Fail if too few mutants were noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=600, help="number of mutants (default: 600)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sample, total = sampled(arguments.mutants, arguments.seed)
    print(f"{len(sample)} of {total} mutants", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        forks = Forks(sample, Path(folder))
        pytest.main([*OPTIONS, *SLOW, f"--basetemp={folder}/tests", *TESTS], plugins=[forks])
    share = forks.noticed / len(sample)
    print(f"{forks.noticed} of {len(sample)} mutants noticed, {share:.1%}")
    raise SystemExit(share < REQUIRED)


if __name__ == "__main__":
    main()
