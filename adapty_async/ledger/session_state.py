"""The state of a ledger session in memory: the items left to send, the claims and the outcomes."""

import bisect
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from operator import itemgetter
from typing import Any, Final

import attrs

from ..bulk import Outcome
from ..bulk.job_store import JobSpec
from ..http.clocks import ANY_TIME, Moment, read_boot_id
from ..http.retry import is_stale
from .chunks import ITEMS_PER_CHUNK, OUTCOMES, STATES, Chunk, OutcomeRow, check_clock, to_timestamp
from .input_check import InputCheck, InputChunk
from .job_api_key import ABSENT_RATIO_NOTE, APP_ID_NOTE
from .job_preparation import check_job_spec, create_job, load_id_key
from .lock import LedgerLock
from .named_and_temporary import LedgerLocation
from .store import CommitData, RunRow, Store

_CLOCK_TOLERANCE: Final = 5.0
"""Seconds by which clocks may differ. The age of a claim that is further in the future is unknown."""
_MAX_CLOCK_DRIFT: Final = 0.5
"""Seconds by which the wall clock may be set ahead before this is recorded."""
_GET_STATE: Final = itemgetter(1)
_MAX_STATE_WITHOUT_EFFECT: Final = STATES[Outcome.FAILED]
"""An item in this state or a lower one has certainly had no effect."""


@attrs.frozen
class RemainingItems:
    """The items of a chunk that are left to send.

    Attributes:
        indexes: The indexes of the items.
        maybe_sent_at: When an earlier run may have sent an item, by index.
    """

    indexes: Sequence[int]
    maybe_sent_at: Mapping[int, Moment] = attrs.field(factory=dict[int, Moment])


@attrs.frozen
class ResumeConditions:
    """The conditions for resuming an earlier job.

    Attributes:
        appended: Whether rows may have been added at the end of the input.
        retry: Items with one of these outcomes are sent again.
        new_key: Whether another API key of the same app may be used.
        notes: Notes of this run for the record.
        job_options: The job options from this run on.
        lock: The lock of the ledger if the caller already holds it.
    """

    appended: bool = False
    retry: frozenset[Outcome] = frozenset()
    new_key: bool = False
    notes: Mapping[str, str] = attrs.field(factory=dict)
    job_options: Mapping[str, Any] | None = None
    lock: LedgerLock | None = None


@attrs.define
class _OpenChunk:
    """A chunk with unfinished items. `remaining` is their number."""

    chunk: Chunk
    remaining: int


@attrs.define
class _DirtyData:
    """Changes that aren't on the disk: chunk numbers, claimed positions, outcomes, and whether the run has changed."""

    chunk_numbers: set[int] = attrs.field(factory=set)
    claimed_positions: list[int] = attrs.field(factory=list)
    outcome_counts: Counter[Outcome] = attrs.field(factory=Counter)
    is_run_dirty: bool = False


class SessionState:
    """The ledger session of one run, in memory.

    Only `open`, `load_and_check`, `write`, `check_files` and `close` wait for the disk. They may run in another thread.
    `prepare_commit` returns the changes, `write` writes them, and the caller reports the result with `on_committed` or
    `on_commit_failed`. After a failure the changes are still dirty.

    The run itself is committed with the first chunk that has items left to send. It is also committed if it records the
    app of a key or an accepted guard. A refused input leaves no trace, and a job that is already done gets no further
    run.
    """

    def __init__(
        self,
        store: Store,
        input_check: InputCheck,
        runs: Sequence[RunRow],
        run: RunRow,
        options: ResumeConditions,
        *,
        is_repeatable: bool,
    ) -> None:
        self._store = store
        self._input_check = input_check
        self._earlier_runs = _RunsSinceBoot.from_runs(runs, run.boot)
        self._last_notes: dict[str, str] = json.loads(runs[-1].notes) if runs else {}
        self._run = run
        self._options = options
        self._is_repeatable = is_repeatable
        self._open_chunks: dict[int, _OpenChunk] = {}
        self._partial_chunk_number: int | None = None  # the chunk that the input has filled in part
        self._dirty = _DirtyData()
        self._committing = _DirtyData()
        self._is_input_accepted = False
        self._has_run_started = False
        self._has_touched = False

    @classmethod
    def open(
        cls, location: LedgerLocation, job_spec: JobSpec, options: ResumeConditions, clock: Callable[[], Moment]
    ) -> "SessionState":
        """Open and lock the ledger for a run. Raise LedgerError."""
        now = clock()
        check_clock(now.wall)
        store = Store.open(
            location, lambda new: create_job(new, location, job_spec, to_timestamp(now.wall)), lock=options.lock
        )
        try:
            job, runs = store.read_job(), store.read_runs()
            id_key = load_id_key(location, job)
            check_job_spec(location.path, job, runs, job_spec, new_key=options.new_key)
            input_check = InputCheck(store, id_key, job, appended=options.appended)
            store.check_rows()  # first: a damaged ledger gets no record, so nothing may be sent
        except BaseException:  # an interrupt too, which would leave the ledger locked
            store.close()
            raise
        run = RunRow(
            number=len(runs) + 1,
            started=to_timestamp(now.wall),
            ended=None,
            boot=read_boot_id(),
            booted=now.wall - now.boot,
            key_fingerprint=job_spec.key_fingerprint,
            library_version=version("adapty-async"),
            notes=json.dumps(dict(options.notes)),
            touched=False,
        )
        return cls(store, input_check, runs, run, options, is_repeatable=job_spec.is_repeatable)

    def count_known(self, chunk_number: int) -> int:
        """Return how many items of a chunk are in the ledger."""
        return min(max(0, self._input_check.known_count - chunk_number * ITEMS_PER_CHUNK), ITEMS_PER_CHUNK)

    def has_chunk(self, input_chunk: InputChunk) -> bool:
        """Return True if `load_and_check` can read anything about a chunk of the input."""
        return input_chunk.number != self._partial_chunk_number and self._input_check.has_chunk(input_chunk)

    def load_and_check(self, input_chunks: Sequence[InputChunk]) -> list[Chunk | None]:
        """Read the states of consecutive chunks of the input, and check the input against them.

        Return None for each chunk that isn't in the ledger. Raise InputChangedError.
        """
        return self._input_check.load_and_check(input_chunks)

    def open_chunk(self, input_chunk: InputChunk, chunk: Chunk | None, now: Moment) -> RemainingItems:
        """Return the items of a chunk that are left to send. Raise InputChangedError.

        `chunk` is the result of `load_and_check`. If a part of the chunk was taken before in this run, only the added
        items are returned.
        """
        number = input_chunk.number
        partial_chunk = self._open_chunks[number] if number == self._partial_chunk_number else None
        if partial_chunk is not None:
            chunk = partial_chunk.chunk
        before = 0 if partial_chunk is None else len(partial_chunk.chunk)
        checked_chunk = self._input_check.add_chunk(input_chunk, chunk)
        self._partial_chunk_number = None if input_chunk.is_full or input_chunk.is_last else number
        if not self._is_input_accepted:
            self._is_input_accepted = True
            if self._options.job_options is not None:
                self._input_check.record_job_options(self._options.job_options)
        if checked_chunk.has_new_items:
            self._dirty.chunk_numbers.add(number)
        remaining = self._find_remaining_items(number, checked_chunk.chunk, before, now)
        if not self._has_run_started and (
            remaining.indexes or number in self._dirty.chunk_numbers or self._is_run_worth_recording
        ):
            self._has_run_started = self._dirty.is_run_dirty = True
        if partial_chunk is not None:
            partial_chunk.remaining += len(remaining.indexes)
        elif remaining.indexes or number in self._dirty.chunk_numbers or number == self._partial_chunk_number:
            self._open_chunks[number] = _OpenChunk(checked_chunk.chunk, len(remaining.indexes))
        return remaining

    @property
    def _is_run_worth_recording(self) -> bool:
        """Whether the notes belong in the record even if the job is done: its app, or an accepted guard."""
        accepted = self._options.notes.get(ABSENT_RATIO_NOTE)
        return APP_ID_NOTE in self._options.notes or accepted not in (None, self._last_notes.get(ABSENT_RATIO_NOTE))

    def claim(self, positions: Sequence[int], now: Moment) -> None:
        """Record that items are about to be sent, in order. Don't hand them out before this is committed."""
        begin, timestamp = 0, to_timestamp(now.wall)
        while begin < len(positions):
            number = positions[begin] // ITEMS_PER_CHUNK
            first = number * ITEMS_PER_CHUNK
            end = bisect.bisect_left(positions, first + ITEMS_PER_CHUNK, begin)
            fresh = self._open_chunks[number].chunk.claim(
                [position - first for position in positions[begin:end]], timestamp
            )
            self._dirty.claimed_positions += map(first.__add__, fresh)
            self._dirty.chunk_numbers.add(number)
            begin = end
        booted = now.wall - now.boot
        if positions and (not self._run.touched or booted > self._run.booted + _MAX_CLOCK_DRIFT):
            self._update_run(touched=True, booted=max(booted, self._run.booted))

    def release(self, positions: Sequence[int]) -> None:
        """Record that claimed items weren't sent."""
        for position in positions:
            number, index = divmod(position, ITEMS_PER_CHUNK)
            opened = self._open_chunks[number]
            opened.chunk.release(index)
            opened.remaining -= 1
            self._dirty.chunk_numbers.add(number)

    def record_outcomes(self, rows: Sequence[OutcomeRow], timestamp: int) -> None:
        """Record outcomes."""
        for number, mine in itertools.groupby(rows, _get_chunk_number):
            opened = self._open_chunks[number]
            opened.remaining -= opened.chunk.record_outcomes(mine, number * ITEMS_PER_CHUNK, timestamp)
            self._dirty.chunk_numbers.add(number)
        self._dirty.outcome_counts += count_outcomes(rows)
        self._has_touched = self._has_touched or any(
            state > _MAX_STATE_WITHOUT_EFFECT and attempts for _, state, _, attempts in rows
        )

    def get_exclude_list_number(self, exclude_list: str | None) -> int:
        """Return the number of an exclude list, or 0 if there is none."""
        return self._input_check.get_exclude_list_number(exclude_list)

    def set_live_status(self, live_status: str) -> None:
        """Record the live status for readers of the ledger."""
        self._update_run(live_status=live_status)

    def end_run(self, timestamp: int) -> None:
        """Record that the run ended normally, if it was recorded at all."""
        touched = self._has_touched or any(opened.chunk.claimed_count for opened in self._open_chunks.values())
        self._update_run(ended=timestamp, touched=touched, live_status=None)

    @property
    def uncommitted_counts(self) -> Counter[Outcome]:
        """The number of items, by outcome, whose outcome would be lost in a crash."""
        return self._dirty.outcome_counts + self._committing.outcome_counts

    def prepare_commit(self) -> CommitData | None:
        """Return the changes since the last call, or None if there are none. Write them in this order."""
        contents = self._input_check.prepare_commit()
        dirty, self._dirty = self._dirty, _DirtyData()
        self._committing = dirty
        outcomes = [(number, self._open_chunks[number].chunk.pack()) for number in sorted(dirty.chunk_numbers)]
        commit_data = attrs.evolve(contents, run=self._run if dirty.is_run_dirty else None, outcomes=outcomes)
        return None if commit_data.is_empty else commit_data

    def write(self, commit_data: CommitData) -> None:
        """Write all of the changes or none, and sync them. Raise LedgerWriteError."""
        self._store.commit(commit_data)

    def check_files(self) -> None:
        """Raise LedgerLostError if a file was removed, renamed or replaced since the ledger was opened."""
        self._store.check_files()

    def on_committed(self) -> None:
        """Record that the changes from `prepare_commit` are on the disk."""
        committed, self._committing = self._committing, _DirtyData()
        for number in committed.chunk_numbers - self._dirty.chunk_numbers:
            if not self._open_chunks[number].remaining and number != self._partial_chunk_number:
                del self._open_chunks[number]
        self._input_check.on_committed()

    def on_commit_failed(self) -> None:
        """Record that the changes from `prepare_commit` couldn't be written. Their claims are no longer valid."""
        failed, self._committing = self._committing, _DirtyData()
        for position in failed.claimed_positions:
            number, index = divmod(position, ITEMS_PER_CHUNK)
            self._open_chunks[number].chunk.release(index)
        self._dirty.chunk_numbers |= failed.chunk_numbers
        self._dirty.outcome_counts += failed.outcome_counts
        self._dirty.is_run_dirty |= failed.is_run_dirty
        self._input_check.on_commit_failed()

    def close(self) -> None:
        """Close the ledger."""
        self._store.close()

    def _update_run(self, **values: Any) -> None:
        self._run = attrs.evolve(self._run, **values)
        self._dirty.is_run_dirty = self._has_run_started

    def _find_remaining_items(self, number: int, chunk: Chunk, begin: int, now: Moment) -> RemainingItems:
        """Return the items of a chunk that are left to send, from the index `begin` on."""
        if not any(chunk.states[begin:]):
            return RemainingItems(range(begin, len(chunk)))
        indexes: list[int] = []
        maybe_sent_at: dict[int, Moment] = {}
        for index in chunk.find_remaining_indexes(self._options.retry):
            if index < begin:
                continue
            if chunk.is_claimed(index):
                sent = self._get_sent_time(chunk, index, now)
                if sent is None or is_stale(sent, now):
                    chunk.mark_in_doubt(index)
                    self._dirty.chunk_numbers.add(number)
                    continue
                maybe_sent_at[index] = sent
            elif chunk.states[index] == STATES[Outcome.IN_DOUBT]:
                maybe_sent_at[index] = ANY_TIME
            indexes.append(index)
        return RemainingItems(indexes, maybe_sent_at)

    def _get_sent_time(self, chunk: Chunk, index: int, now: Moment) -> Moment | None:
        """Return when a claimed item may have been sent, or None if its age is unknown."""
        if self._is_repeatable or Outcome.IN_DOUBT in self._options.retry:
            return ANY_TIME
        claimed_at = chunk.get_claim_time(index)
        age = None if claimed_at is None else self._earlier_runs.measure_age(claimed_at, now)
        return None if age is None else now.subtract(age)


@attrs.frozen
class _RunsSinceBoot:
    """The runs since the machine was started.

    `since` is the start of the first one. `booted` is the latest value of RunRow.booted. The age of a claim before that
    is unknown: the boot clock doesn't reach back that far, and the wall clock may stop or be set back while the machine
    is off.
    """

    since: float
    booted: float

    @classmethod
    def from_runs(cls, runs: Sequence[RunRow], boot_id: str) -> "_RunsSinceBoot":
        """Return the data of the runs that claimed items."""
        touched = [run for run in reversed(runs) if run.touched]
        own = list(itertools.takewhile(lambda run: run.boot == boot_id, touched))
        return cls(own[-1].started if own else math.inf, max((run.booted for run in own), default=-math.inf))

    def measure_age(self, claimed_at: int, now: Moment) -> float | None:
        """Return the seconds since a claim, by the clock that shows most. Return None if no clock is reliable."""
        age = max(now.wall, self.booted + now.boot) - claimed_at
        return age if claimed_at >= self.since and age >= -_CLOCK_TOLERANCE else None


def _get_chunk_number(row: OutcomeRow) -> int:
    return row[0] // ITEMS_PER_CHUNK


def count_outcomes(rows: Sequence[OutcomeRow]) -> Counter[Outcome]:
    """Return the number of items by outcome."""
    states = Counter(map(_GET_STATE, rows))
    return Counter({OUTCOMES[state]: count for state, count in states.items()})
