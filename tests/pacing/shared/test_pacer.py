"""The shared pacer: several members together, in virtual time."""

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapty_async import AdaptivePacer, SharedPacer
from adapty_async.pacing import MAX_RETRY_AFTER, Phase, Ticket, Verdict
from benchmarks.rate_simulation import Answer
from benchmarks.shared_pacing import Job, goodput, refused, split

from .helpers import Clocks, kill, open_now, run, send, slot_in_hand


@pytest.mark.no_cover  # the same lines run again and again, and coverage makes this four times slower
class TestTogether:
    @pytest.mark.parametrize(
        ("farther", "begins"), [(0.0, 0.0), (0.4, 0.0), (0.0, 40.0)], ids=["alike", "one far away", "one later"]
    )
    def test_two_come_near_the_limit_and_share_it_evenly(
        self, open_pacer: Callable[..., SharedPacer], farther: float, begins: float
    ) -> None:
        jobs = [Job(open_pacer()), Job(open_pacer(), farther=farther, begins=begins)]
        tally = run(jobs, seconds=120)
        assert goodput(tally, 50, 20, 120) >= 0.98
        assert refused(tally) <= 0.006
        assert 0.48 <= split(jobs, max(20.0, begins), 120) <= 0.52

    def test_three_share_it_evenly_too(self, open_pacer: Callable[..., SharedPacer]) -> None:
        jobs = [Job(open_pacer()) for _ in range(3)]
        tally = run(jobs)
        assert goodput(tally, 50, 20, 100) >= 0.98
        assert 0.31 <= split(jobs, 20, 100) <= 0.36

    @pytest.mark.parametrize(("rate", "burst", "seconds", "under_way"), [(50, 10, 120, 64), (1000, 50, 40, 400)])
    def test_one_alone_is_as_good_as_an_adaptive_pacer(
        self, open_pacer: Callable[..., SharedPacer], rate: float, burst: float, seconds: float, under_way: int
    ) -> None:
        tallies = [
            run([Job(pacer)], rate, burst, seconds, under_way=under_way) for pacer in (AdaptivePacer(), open_pacer())
        ]
        alone, shared = (goodput(tally, rate, 20, seconds) for tally in tallies)
        assert shared >= alone - 0.005
        assert refused(tallies[1]) <= refused(tallies[0]) + 0.002

    @pytest.mark.parametrize("how", ["killed", "idle", "closed"])
    def test_when_one_ends_the_other_takes_over_at_once(self, open_pacer: Callable[..., SharedPacer], how: str) -> None:
        ended, goes_on = open_pacer(), open_pacer()

        def look(now: float) -> float:
            if now >= 40 and how == "killed":
                kill(ended)
            elif now >= 40 and how == "closed":
                ended.close()
            return 0.1

        jobs = [Job(ended, ends=40.0), Job(goes_on)]
        tally = run(jobs, delay=look)
        assert goodput(tally, 50, 41, 45) >= 0.97
        assert goodput(tally, 50, 41, 100) >= 0.98
        assert refused(tally) <= 0.006

    def test_one_that_has_little_to_send_takes_little_from_the_other(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        hungry, sparing = open_pacer(), open_pacer()
        now, counts, answers = 0.0, [0, 0], deque[tuple[float, SharedPacer, Ticket]]()
        due = 0.0
        while now < 100.0:
            while answers and answers[0][0] <= now:
                _, pacer, ticket = answers.popleft()
                pacer.record(now, ticket, Verdict.ACCEPTED)
            for who, pacer in enumerate((hungry, sparing)):
                if (who == 0 or now >= due) and pacer.delay(now) <= 1e-6:
                    answers.append((now + 0.05, pacer, pacer.acquire(now)))
                    counts[who] += 1
                    due = now + 0.3 if who else due
            if hungry.rate >= 40:
                break
            now += 0.001
        began, counts = now, [0, 0]
        rate = hungry.rate
        while now < began + 1.0:
            for who, pacer in enumerate((hungry, sparing)):
                if (who == 0 or now >= due) and pacer.delay(now) <= 1e-6:
                    pacer.acquire(now)
                    counts[who] += 1
                    due = now + 0.3 if who else due
            now += 0.001
        assert counts[1] >= 3
        assert sum(counts) >= 0.93 * rate

    def test_no_process_sends_before_a_retry_after_is_over(self, open_pacer: Callable[..., SharedPacer]) -> None:
        tally = run([Job(open_pacer()), Job(open_pacer())], seconds=200, retry_after=lambda _: 1.0)
        assert tally.too_early == 0
        assert goodput(tally, 50, 20, 200) >= 0.94
        assert refused(tally) <= 0.0015

    def test_where_everything_is_refused_they_ask_with_single_requests_only(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        def fault(now: float, _: float) -> Answer | None:
            return Answer(Verdict.THROTTLED) if 30 <= now < 90 else None

        tally = run([Job(open_pacer()), Job(open_pacer())], seconds=130, fault=fault)
        assert sum(tally.sent[64:180]) <= 30
        assert goodput(tally, 50, 122, 130) >= 0.9


class TestWhatOneHearsAllObey:
    def test_a_retry_after_revokes_the_slots_that_others_have_in_hand(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        one, other = open_pacer(start_rate=100), open_pacer(start_rate=100)
        ticket = send(one, 1000.0)
        slot = slot_in_hand(other, 1000.0)
        one.record(1000.0, ticket, Verdict.UNKNOWN, 30.0)
        assert other.delay(slot) == pytest.approx(1030.0 - slot)
        assert one.delay(slot) == pytest.approx(1030.0 - slot)
        assert not open_now(other, 1029.9)
        send(other, 1030.0)

    def test_a_reaction_to_a_refusal_revokes_them_too(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one, other = open_pacer(start_rate=100), open_pacer(start_rate=100)
        ticket = send(one, 1000.0)
        slot = slot_in_hand(other, 1000.0)
        one.record(1000.0, ticket, Verdict.THROTTLED)
        assert not open_now(other, slot)
        assert other.phase is Phase.BLOCKED

    def test_the_rate_that_one_finds_is_the_rate_of_all(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one, other = open_pacer(), open_pacer()
        run([Job(one)], seconds=30)
        send(other, 31.0)
        assert other.estimate == pytest.approx(50, rel=0.03)
        assert other.rate == pytest.approx(one.rate)
        assert other.snapshot().sent >= one.snapshot().sent

    def test_while_blocked_only_one_of_them_asks(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one, other = open_pacer(), open_pacer()
        one.record(1000.1, send(one, 1000.0), Verdict.THROTTLED)
        question = send(one, 1000.1)
        assert other.delay(question.sent_at) > 0
        other_waits = [other.delay(question.sent_at + seconds) for seconds in (0.1, 1.0, 5.0, 20.0)]
        assert all(0 < wait <= 0.25 for wait in other_waits)
        one.record(question.sent_at + 21.0, question, Verdict.ACCEPTED)
        assert send(other, question.sent_at + 21.0).sent_at < question.sent_at + 22.0

    @pytest.mark.parametrize("sent", [True, False], ids=["asked", "about to ask"])
    def test_the_question_of_a_dead_process_holds_nobody_up(
        self, open_pacer: Callable[..., SharedPacer], sent: bool
    ) -> None:
        one, other = open_pacer(), open_pacer()
        one.record(1000.1, send(one, 1000.0), Verdict.THROTTLED)
        assert open_now(one, 1001.0)
        if sent:
            one.acquire(1001.0)
        assert other.delay(1001.0) > 0
        kill(one)
        assert send(other, 1001.0).sent_at <= 1006.0

    def test_a_question_that_is_never_asked_holds_nobody_up(self, open_pacer: Callable[..., SharedPacer]) -> None:
        one, other = open_pacer(), open_pacer()
        one.record(1000.1, send(one, 1000.0), Verdict.THROTTLED)
        assert open_now(one, 1001.0)
        assert send(other, 1001.0).sent_at <= 1003.0

    def test_the_most_careful_settings_count_while_their_owner_is_there(
        self, open_pacer: Callable[..., SharedPacer]
    ) -> None:
        one = open_pacer()
        run([Job(one)], seconds=30)
        careful = open_pacer(utilization=0.7, probe_after=3000, max_rate=34.0)
        send(careful, 31.0)
        assert careful.rate == 34.0
        careful.close()
        send(one, 32.0)
        assert one.rate > 45.0

    def test_background_leaves_room(self, path: Path, clocks: Clocks) -> None:
        with_max = SharedPacer.background(path, max_rate=20.0, wall_clock=clocks.wall)
        run([Job(with_max)], seconds=30)
        assert with_max.rate == 20.0
        with_max.close()


events = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1), st.floats(0.0, 3.0)),
    st.tuples(
        st.sampled_from(list(Verdict)),
        st.integers(0, 1),
        st.floats(0.0, 3.0),
        st.integers(0, 5),
        st.one_of(st.none(), st.floats(), st.floats(0.0, 100.0)),
    ),
    st.tuples(st.sampled_from(["close", "kill"]), st.integers(0, 1), st.floats(0.0, 3.0)),
)


class TestWhateverHappens:
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(script=st.lists(events, max_size=60))
    def test_waits_and_rates_stay_what_they_must_be_and_every_retry_after_is_obeyed(
        self, tmp_path: Path, script: list[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.clear()
        state = tmp_path / "state"
        state.unlink(missing_ok=True)
        clocks = Clocks()
        made = [SharedPacer(state, max_rate=80.0, probe_after=5, wall_clock=clocks.wall) for _ in range(2)]
        pacers, now, told_until = list(made), 1000.0, -math.inf
        tickets: list[list[Ticket]] = [[], []]
        for what, who, pause, *rest in script:
            now += pause
            pacer = pacers[who]
            if what == "send":
                if pacer.delay(now) == 0.0:
                    assert now >= told_until
                    tickets[who].append(pacer.acquire(now))
            elif what in {"close", "kill"}:
                if what == "kill" and pacer._member is not None:  # noqa: SLF001 - check that there is a membership
                    kill(pacer)
                else:
                    pacer.close()
                pacers[who] = SharedPacer(state, max_rate=80.0, probe_after=5, wall_clock=clocks.wall)
                made.append(pacers[who])
            elif tickets[who]:
                back, retry_after = rest
                pacer.record(now, tickets[who][-1 - back % len(tickets[who])], what, retry_after)
                if retry_after is not None and 0 < retry_after <= MAX_RETRY_AFTER:
                    told_until = max(told_until, now + retry_after)
            assert 0.0 <= pacers[who].delay(now) < math.inf
            assert 0.0 < pacers[who].rate <= 80.0
        for pacer in made:
            pacer.close()
        assert caplog.records == []
