"""Encoding of a pacer's state as JSON, and the state's work for its members."""

import math
from collections import deque
from enum import StrEnum
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async.pacing import Phase, Verdict
from adapty_async.pacing.shared import state as shared_state
from adapty_async.pacing.shared.codec import Codec, StateDecodeError, dump_json, parse_json
from adapty_async.pacing.shared.shared_adaptive import SharedAdaptivePacer
from benchmarks.shared_pacing import Job

from .helpers import Clocks, run


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Point:
    x: float
    y: object


class Box:
    def __init__(self) -> None:
        self.lid = 0.0
        self._content: object = None


class Larger(Box):
    def __init__(self) -> None:
        super().__init__()
        self.extra: object = 1


CODEC = Codec(Colour, Point, Box, Larger)


def larger(values: tuple[float, object, object]) -> Larger:
    made = Larger()
    made.lid, made._content, made.extra = values  # noqa: SLF001 - needed to fill it
    return made


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(list(Colour))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda items: deque(items, maxlen=7)),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.builds(Point, st.floats(), inner),
        st.tuples(st.floats(), inner, inner).map(larger),
    ),
    max_leaves=15,
)

jsons = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["tuple", "deque", "dict", "Colour", "Point", "Box", "os", "x"]), inner),
    ),
    max_leaves=10,
)


def shown(value: Any) -> Any:
    """Return a value that compares equal for equal inputs. A NaN isn't equal to itself."""
    if isinstance(value, Box):
        return type(value), {name: shown(part) for name, part in vars(value).items()}
    if isinstance(value, Point):
        return Point, shown(value.x), shown(value.y)
    if isinstance(value, deque):
        return deque, value.maxlen, [shown(item) for item in value]
    if isinstance(value, list | tuple):
        return type(value), [shown(item) for item in value]
    if isinstance(value, dict):
        return dict, {key: shown(item) for key, item in value.items()}
    return type(value), repr(value)


class TestCodec:
    @given(values)
    def test_what_is_encoded_is_decoded_to_the_same(self, value: object) -> None:
        assert shown(CODEC.decode(parse_json(dump_json(CODEC.encode(value))))) == shown(value)

    @given(jsons)
    def test_anything_else_is_a_misfit_or_harmless(self, found: object) -> None:
        try:
            value = CODEC.decode(found)
        except StateDecodeError:
            return
        assert type(value) in {type(None), bool, int, float, str, list, tuple, deque, dict, Colour, Point, Box}

    @given(st.binary(max_size=200))
    def test_what_is_no_json_is_a_misfit(self, text: bytes) -> None:
        try:
            CODEC.decode(parse_json(text))
        except StateDecodeError:
            return

    # The last is too deep for the JSON parser, the others for the steps after it.
    @pytest.mark.parametrize(
        ("opens", "closes", "depth"), [("[", "]", 990), ('{"tuple":[', "]}", 450), ("[", "]", 100_000)]
    )
    def test_json_that_is_too_deep_is_a_misfit(self, opens: str, closes: str, depth: int) -> None:
        with pytest.raises(StateDecodeError):
            CODEC.decode(parse_json((opens * depth + closes * depth).encode()))

    @pytest.mark.parametrize("found", [{"Point": {}}, {"Point": {"x": 0.0, "y": 1, "z": 2}}, {"Point": [1]}])
    def test_other_fields_than_todays_are_a_misfit(self, found: object) -> None:
        with pytest.raises(StateDecodeError):
            CODEC.decode(found)

    def test_a_type_that_isnt_known_is_refused_both_ways(self) -> None:
        with pytest.raises(TypeError, match="can't hold a Clocks"):
            CODEC.encode(Clocks())
        with pytest.raises(StateDecodeError):
            CODEC.decode({"Clocks": {}})

    def test_a_pacer_that_is_decoded_goes_on_as_the_one_that_was_encoded(self) -> None:
        one = SharedAdaptivePacer()
        state = shared_state.SharedState.start(0.0, 0.0, 5.0, None)
        state.pacer = one
        run([Job(one)], seconds=60, retry_after=lambda number: 1.0 if number % 2 else None)
        other = shared_state.SharedState.reload(state.encode()).pacer
        assert vars(other).keys() == vars(one).keys()
        tallies = [run([Job(pacer)], seconds=100) for pacer in (one, other)]
        assert tallies[0] == tallies[1]


class TestTheMind:
    def test_what_is_withdrawn_counts_as_never_sent(self) -> None:
        from adapty_async.pacing.estimator import Interval

        sent, planned = (Interval(0.0, 1, is_bucket_empty=True) for _ in range(2))
        sent.add_full_point(5.0, 251)
        sent.end(10.0, 501, rate=60.0)
        planned.add_full_point(5.0, 271)
        planned.cancel_slots(251, 20)  # before the point
        planned.cancel_slots(400, 30)
        planned.end(10.0, 551, rate=60.0)
        assert planned.accepted_count == sent.accepted_count
        assert planned.fit_limit(1.0) == sent.fit_limit(1.0)

    def test_the_end_of_the_schedule_is_free_again_when_it_is_withdrawn(self) -> None:
        pacer = SharedAdaptivePacer(start_rate=10.0)
        tickets = [pacer.acquire(now) for now in (1.0, 1.1, 1.2)]
        pacer.cancel_slots(tickets[0], 1)
        assert pacer.delay(1.0) == pytest.approx(0.28)
        pacer.cancel_slots(tickets[1], 2)
        assert pacer.delay(1.0) == pytest.approx(0.1)

    def test_careful_settings_are_adopted_at_once_and_let_go_of(self) -> None:
        pacer = SharedAdaptivePacer()
        run([Job(pacer)], seconds=30)
        assert pacer.phase is Phase.CRUISE or pacer.phase is Phase.PROBE
        pacer.update_settings(30.0, 0.7, 3000)
        assert pacer.rate <= 30.0
        pacer.update_settings(math.inf, 0.98, 200)
        assert pacer.rate <= 50.0


def state_of(*tokens: str) -> shared_state.SharedState:
    """Return a state at 10/s as of 1000.0, with this many members."""
    state = shared_state.SharedState.start(1000.0, 1000.0, 10.0, None)
    for token in tokens:
        settings = shared_state.Settings(math.inf, 0.98, 200)
        state.update_member(token, shared_state.Member(1, "here", settings, seen_at=1000.0), wall_time=1000.0)
    return state


class TestTheState:
    def test_what_was_planned_before_a_reaction_holds_nothing_back_after_it(self) -> None:
        state = state_of("one", "other")
        first, *others = (state.lease_slots(token, 1000.0, 1)[0] for token in ("one", "other") * 20)
        assert state.pacer.delay(1000.0) > 3.9
        state.record_results([shared_state.SlotResult(1000.1, first, Verdict.ACCEPTED, None)])
        assert state.pacer.delay(1000.1) > 3.8
        state.record_results(
            [shared_state.SlotResult(1000.2, ticket, Verdict.THROTTLED, None) for ticket in others[:5]]
        )
        # The wait is for a few tokens at the rate that is tried next.
        assert state.pacer.delay(1000.2) < 1.0

    @pytest.mark.parametrize(("silence", "left"), [(299.0, {"one"}), (301.0, set())])
    def test_who_says_nothing_for_five_minutes_is_not_waited_for(self, silence: float, left: set[str]) -> None:
        state = state_of("one")
        state.remove_dead_members(1000.0 + silence, lambda _token, _member: True)
        assert set(state.coordination.members) == left

    def test_who_is_no_more_is_not_waited_for(self) -> None:
        state = state_of("one", "other")
        state.remove_dead_members(1000.0, lambda who, _member: who == "one")
        assert set(state.coordination.members) == {"one"}

    @pytest.mark.parametrize(("later", "goes_on"), [(0.9, False), (1.1, True)])
    def test_a_question_that_isnt_asked_within_a_second_is_anothers(self, later: float, goes_on: bool) -> None:
        state = state_of("one", "other")
        [refused] = state.lease_slots("one", 1000.0, 1)
        state.record_results([shared_state.SlotResult(1000.1, refused, Verdict.THROTTLED, None)])
        assert state.pacer.phase is Phase.BLOCKED
        now = 1000.1 + state.pacer.delay(1000.1)
        [question] = state.lease_slots("one", now, 1)
        state.coordination.members["one"].first_slot, state.coordination.members["one"].slot_count = question, 1
        state.remove_dead_members(question.sent_at + later, lambda _token, _member: True)
        assert bool(state.lease_slots("other", question.sent_at + later, 1)) is goes_on
