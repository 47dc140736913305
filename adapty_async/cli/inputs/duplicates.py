"""Find duplicate IDs in bounded memory.

An 8-byte hash of each ID is written to a temporary file, in sorted runs. IDs with equal hashes are candidates. Only the
candidates are compared by ID, in parts that fit into memory. A row takes 16 bytes on disk, and one or two bits in
memory.
"""

import bisect
import contextlib
import itertools
import json
import operator
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Final, Self, TypeAlias

import attrs

from .temp_files import open_temp_file, translate_temp_file_errors

Candidate: TypeAlias = tuple[int, str, str | None]
"""A position, the name of its ID, and a digest of what else is sent; None if the row isn't sent."""

_RUN_SIZE: Final = 1 << 17
"""The number of IDs that are sorted or compared together."""
_PARTITION_COUNT: Final = 1024
_MAX_PARTS: Final = 256
_ITEM_BYTES: Final = 8
_PARTITION_BOUNDS: Final = [(post / _PARTITION_COUNT * 2 - 1) * 2.0**63 for post in range(1, _PARTITION_COUNT)]
"""The bounds between the ranges of hashes, which are evenly distributed."""


class PositionSet:
    """A set of positions, stored as a bitmap."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def add(self, position: int) -> None:
        """Add a position, which may already be in the set."""
        byte, bit = position >> 3, 1 << (position & 7)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        if not self._bits[byte] & bit:
            self._bits[byte] |= bit
            self.count += 1

    def list_range(self, start: int, stop: int) -> list[int]:
        """Return the positions in range(start, stop)."""
        first = start >> 3
        return [
            position
            for index, byte in enumerate(self._bits[first : (stop + 7) >> 3], first)
            if byte
            for position in range(8 * index, 8 * index + 8)
            if byte >> (position & 7) & 1 and start <= position < stop
        ]


@attrs.frozen
class _SortedRun:
    """A sorted run in the files: its first item, and the item at each fence."""

    start: int
    bounds: Sequence[int]

    def find_range(self, first: int, last: int) -> tuple[int, int]:
        """Return the range of items between two fences."""
        return self.start + self.bounds[first], self.start + self.bounds[last]


class DuplicateFinder:
    """Find candidates among IDs, which are added in the order of their positions. Use it in a with block."""

    def __init__(self, hash_function: Callable[[str], int] = hash, run_size: int = _RUN_SIZE) -> None:
        self._hash_function = hash_function
        self._run_size = run_size
        self._stack = contextlib.ExitStack()
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self._runs: list[_SortedRun] = []
        self._size = 0
        self._hashes = array("d")
        self._positions = array("Q")
        self._candidates = PositionSet()

    def add(self, positions: Iterable[int], names: Iterable[str]) -> None:
        """Add IDs. Raises InputError."""
        # A float keeps at least 53 of the 64 bits, and sorting floats is three times as fast.
        self._hashes.extend(map(float, map(self._hash_function, names)))
        self._positions.extend(positions)
        if len(self._hashes) >= self._run_size:
            self._flush_run()

    def find_candidates(self) -> PositionSet:
        """Return the positions of all IDs that may equal another. Raises InputError."""
        if not self._runs:
            self._sort_run()
            return self._candidates
        self._flush_run()
        parts = min(_PARTITION_COUNT, -(-self._size // self._run_size))
        bounds = [part * _PARTITION_COUNT // parts for part in range(parts + 1)]
        for first, last in itertools.pairwise(bounds):
            self._compare_range([run.find_range(first, last) for run in self._runs])
        return self._candidates

    def _flush_run(self) -> None:
        """Sort the added hashes and write them to the files."""
        order = self._sort_run()
        hashes = array("d", map(self._hashes.__getitem__, order))
        self._write_run(hashes, array("Q", map(self._positions.__getitem__, order)))
        bounds = [bisect.bisect_left(hashes, post) for post in _PARTITION_BOUNDS]
        self._runs.append(_SortedRun(self._size, array("I", [0, *bounds, len(order)])))
        self._size += len(order)
        self._hashes, self._positions = array("d"), array("Q")

    def _sort_run(self) -> list[int]:
        """Return the indexes of the added items, sorted by hash. Keep one of equal hashes; record all as candidates."""
        order = sorted(range(len(self._hashes)), key=self._hashes.__getitem__)
        return order if len(set(self._hashes)) == len(order) else self._drop_duplicates(order)

    def _drop_duplicates(self, order: Sequence[int]) -> list[int]:
        hashes = list(map(self._hashes.__getitem__, order))
        is_same = list(map(operator.eq, hashes[1:], hashes))
        for place in itertools.compress(range(len(is_same)), is_same):
            self._candidates.add(self._positions[order[place]])
            self._candidates.add(self._positions[order[place + 1]])
        return [order[0], *itertools.compress(order[1:], map(operator.not_, is_same))]

    def _compare_range(self, parts: Sequence[tuple[int, int]]) -> None:
        """Compare one range of hashes across all runs."""
        hashes = array("d")
        for first, last in parts:
            hashes.frombytes(self._read_items(0, first, last))
        if len(set(hashes)) == len(hashes):
            return
        repeated = {value for value, count in Counter(hashes).items() if count > 1}
        positions = array("Q")
        for first, last in parts:
            positions.frombytes(self._read_items(1, first, last))
        for position in itertools.compress(positions, map(repeated.__contains__, hashes)):
            self._candidates.add(position)

    def _write_run(self, *columns: "array[float] | array[int]") -> None:
        with translate_temp_file_errors():
            if self._files is None:
                self._files = (open_temp_file(self._stack), open_temp_file(self._stack))
            for file, values in zip(self._files, columns, strict=True):
                file.write(values)
                file.flush()

    def _read_items(self, which: int, first: int, last: int) -> bytes:
        assert self._files is not None
        with translate_temp_file_errors():
            self._files[which].seek(first * _ITEM_BYTES)
            return self._files[which].read((last - first) * _ITEM_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@attrs.define
class DuplicateReport:
    """The candidates that repeat an earlier one.

    `positions`: those with the same content. `conflict`: the positions of an earlier candidate and of the first that
    repeats it with different content, or None.
    """

    positions: PositionSet = attrs.Factory(PositionSet)
    conflict: tuple[int, int] | None = None

    def compare(self, position: int, content: str | None, earlier: tuple[int, str | None]) -> None:
        """Compare a candidate with the first one of the same name."""
        if content != earlier[1]:
            if self.conflict is None or position < self.conflict[1]:
                self.conflict = earlier[0], position
        elif content is not None:
            self.positions.add(position)


def find_duplicates(candidate_count: int, batches: Iterable[Sequence[Candidate]]) -> DuplicateReport:
    """Compare candidates by ID and return those that repeat an earlier one. Raises InputError.

    `candidate_count`: their approximate number. `batches`: the candidates in the order of their positions.
    """
    found = DuplicateReport()
    count = min(_MAX_PARTS, -(-candidate_count // _RUN_SIZE))
    with contextlib.ExitStack() as stack:
        with translate_temp_file_errors():
            parts = [open_temp_file(stack) for _ in range(count)]
            for batch in batches:
                for part, text in _partition(batch, count):
                    parts[part].write(text)
        for file in parts:
            _compare_part(file, found)
    return found


def _partition(batch: Sequence[Candidate], part_count: int) -> Iterator[tuple[int, bytes]]:
    divided: list[list[Candidate]] = [[] for _ in range(part_count)]
    for candidate in batch:
        divided[hash(candidate[1]) % part_count].append(candidate)
    return ((part, json.dumps(items).encode() + b"\n") for part, items in enumerate(divided) if items)


def _compare_part(part: IO[bytes], found: DuplicateReport) -> None:
    seen: dict[str, tuple[int, str | None]] = {}
    with translate_temp_file_errors():
        part.seek(0)
        for line in part:
            for position, name, content in json.loads(line):
                if name in seen:
                    found.compare(position, content, seen[name])
                else:
                    seen[name] = position, content
