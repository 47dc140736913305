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

from .temp_files import scratch, scratching

Candidate: TypeAlias = tuple[int, str, str | None]
"""A position, the name of its ID, and a digest of what else is sent; None if the row isn't sent."""

_RUN: Final = 1 << 17
"""The number of IDs that are sorted or compared together."""
_FENCES: Final = 1024
_MOST_PARTS: Final = 256
_SIZE: Final = 8
_FENCE_POSTS: Final = [(post / _FENCES * 2 - 1) * 2.0**63 for post in range(1, _FENCES)]
"""The bounds between the ranges of hashes, which are evenly distributed."""


class Positions:
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

    def within(self, start: int, stop: int) -> list[int]:
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
class _Run:
    """A sorted run in the files: its first item, and the item at each fence."""

    start: int
    fences: Sequence[int]

    def part(self, first: int, last: int) -> tuple[int, int]:
        """Return the range of items between two fences."""
        return self.start + self.fences[first], self.start + self.fences[last]


class Sieve:
    """Find candidates among IDs, which are added in the order of their positions. Use it in a with block."""

    def __init__(self, hash_of: Callable[[str], int] = hash, run: int = _RUN) -> None:
        self._hash_of = hash_of
        self._run = run
        self._stack = contextlib.ExitStack()
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self._runs: list[_Run] = []
        self._size = 0
        self._hashes = array("d")
        self._positions = array("Q")
        self._found = Positions()

    def add(self, positions: Iterable[int], names: Iterable[str]) -> None:
        """Add IDs. Raises InputError."""
        # A float keeps at least 53 of the 64 bits, and sorting floats is three times as fast.
        self._hashes.extend(map(float, map(self._hash_of, names)))
        self._positions.extend(positions)
        if len(self._hashes) >= self._run:
            self._end_run()

    def candidates(self) -> Positions:
        """Return the positions of all IDs that may equal another. Raises InputError."""
        if not self._runs:
            self._sorted()
            return self._found
        self._end_run()
        parts = min(_FENCES, -(-self._size // self._run))
        bounds = [part * _FENCES // parts for part in range(parts + 1)]
        for first, last in itertools.pairwise(bounds):
            self._compare([run.part(first, last) for run in self._runs])
        return self._found

    def _end_run(self) -> None:
        """Sort the added hashes and write them to the files."""
        order = self._sorted()
        hashes = array("d", map(self._hashes.__getitem__, order))
        self._write(hashes, array("Q", map(self._positions.__getitem__, order)))
        fences = [bisect.bisect_left(hashes, post) for post in _FENCE_POSTS]
        self._runs.append(_Run(self._size, array("I", [0, *fences, len(order)])))
        self._size += len(order)
        self._hashes, self._positions = array("d"), array("Q")

    def _sorted(self) -> list[int]:
        """Return the indexes of the added items, sorted by hash. Keep one of equal hashes; record all as candidates."""
        order = sorted(range(len(self._hashes)), key=self._hashes.__getitem__)
        return order if len(set(self._hashes)) == len(order) else self._without_repeated(order)

    def _without_repeated(self, order: Sequence[int]) -> list[int]:
        hashes = list(map(self._hashes.__getitem__, order))
        is_same = list(map(operator.eq, hashes[1:], hashes))
        for place in itertools.compress(range(len(is_same)), is_same):
            self._found.add(self._positions[order[place]])
            self._found.add(self._positions[order[place + 1]])
        return [order[0], *itertools.compress(order[1:], map(operator.not_, is_same))]

    def _compare(self, parts: Sequence[tuple[int, int]]) -> None:
        """Compare one range of hashes across all runs."""
        hashes = array("d")
        for first, last in parts:
            hashes.frombytes(self._read(0, first, last))
        if len(set(hashes)) == len(hashes):
            return
        repeated = {value for value, count in Counter(hashes).items() if count > 1}
        positions = array("Q")
        for first, last in parts:
            positions.frombytes(self._read(1, first, last))
        for position in itertools.compress(positions, map(repeated.__contains__, hashes)):
            self._found.add(position)

    def _write(self, *columns: "array[float] | array[int]") -> None:
        with scratching():
            if self._files is None:
                self._files = (scratch(self._stack), scratch(self._stack))
            for file, values in zip(self._files, columns, strict=True):
                file.write(values)
                file.flush()

    def _read(self, which: int, first: int, last: int) -> bytes:
        assert self._files is not None
        with scratching():
            self._files[which].seek(first * _SIZE)
            return self._files[which].read((last - first) * _SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@attrs.define
class Repeated:
    """The candidates that repeat an earlier one.

    `positions`: those with the same content. `conflict`: the positions of an earlier candidate and of the first that
    repeats it with different content, or None.
    """

    positions: Positions = attrs.Factory(Positions)
    conflict: tuple[int, int] | None = None

    def enter(self, position: int, content: str | None, earlier: tuple[int, str | None]) -> None:
        """Compare a candidate with the first one of the same name."""
        if content != earlier[1]:
            if self.conflict is None or position < self.conflict[1]:
                self.conflict = earlier[0], position
        elif content is not None:
            self.positions.add(position)


def repeated(candidates: int, batches: Iterable[Sequence[Candidate]]) -> Repeated:
    """Compare candidates by ID and return those that repeat an earlier one. Raises InputError.

    `candidates`: their approximate number. `batches`: the candidates in the order of their positions.
    """
    found = Repeated()
    count = min(_MOST_PARTS, -(-candidates // _RUN))
    with contextlib.ExitStack() as stack:
        with scratching():
            parts = [scratch(stack) for _ in range(count)]
            for batch in batches:
                for part, text in _divided(batch, count):
                    parts[part].write(text)
        for file in parts:
            _compare(file, found)
    return found


def _divided(batch: Sequence[Candidate], count: int) -> Iterator[tuple[int, bytes]]:
    divided: list[list[Candidate]] = [[] for _ in range(count)]
    for candidate in batch:
        divided[hash(candidate[1]) % count].append(candidate)
    return ((part, json.dumps(items).encode() + b"\n") for part, items in enumerate(divided) if items)


def _compare(part: IO[bytes], found: Repeated) -> None:
    seen: dict[str, tuple[int, str | None]] = {}
    with scratching():
        part.seek(0)
        for line in part:
            for position, name, content in json.loads(line):
                if name in seen:
                    found.enter(position, content, seen[name])
                else:
                    seen[name] = position, content
