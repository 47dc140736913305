"""One attempt for an item: its request, and the effect of the response on the item and the job."""

import asyncio
import functools
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, Generic

import attrs

from ..errors import (
    AdaptyAPIError,
    AdaptyConnectionError,
    AdaptyError,
    AuthenticationError,
    InvalidResponseError,
    LocalRateLimitError,
    PermissionDeniedError,
)
from ..http.clock import ANY_TIME
from ..http.descriptors import descriptor_limit, is_out_of_descriptors
from ..http.requests import Request, Response
from ..http.retry import is_absence, is_retryable, is_stale, is_throttled, is_unsent
from ..http.send_queue import LONG_PAUSE
from ..http.sender import Exchange, Sender
from ..pacing import Ticket, Verdict
from .concurrency import ORDINARY, Admission, Health, Permit
from .outage import Patience
from .results import ItemT, Outcome, StopReason, StopRules, Tally, ValueT
from .scheduler import Again, Lineup, Work
from .stop_signal import is_cancelled

_log: Final = logging.getLogger("adapty_async")


@attrs.frozen
class Steps(Generic[ItemT, ValueT]):
    """The requests of one kind of job, and the meaning of their responses.

    `is_answer` returns whether a value that was read can be the response to the given request.
    """

    request: Callable[[ItemT], Request]
    probe: Callable[[ItemT], Request]
    read: Callable[[Response], ValueT]
    done: Outcome
    missing: Outcome
    is_answer: Callable[[Request, ValueT], bool] | None = None


def _is_answered(exchange: Exchange) -> bool:
    return exchange.error is None or isinstance(exchange.error, AdaptyAPIError | InvalidResponseError)


def _is_outage(exchange: Exchange) -> bool:
    """Return True if the request found no working server. A proxy answers 408 if the server is silent."""
    error = exchange.error
    return not _is_answered(exchange) or (
        isinstance(error, AdaptyAPIError) and (error.status >= 500 or error.status == 408)
    )


def _longer(one: float | None, other: float | None) -> float | None:
    """Return the longer of two times. None means without limit."""
    return None if one is None or other is None else max(one, other)


class ProfileOperation(Generic[ItemT, ValueT]):
    """Make the attempts of a job through the send queue, with the client's retry policy."""

    def __init__(self, sender: Sender, steps: Steps[ItemT, ValueT], stop: StopRules, *, most_under_way: int) -> None:
        self._sender = sender
        self._most_under_way = most_under_way
        self._steps = steps
        self._credentials_in_question = asyncio.Lock()
        self._rules = stop
        self._is_tried = False  # set if a time limit runs, or may run
        self._said_parked_until = -math.inf
        self._said_out_of_descriptors = False

    def open(self, lineup: Lineup[ItemT], tally: Tally) -> None:
        """Prepare the operation.

        Raises:
            RuntimeError: If the client is closed or belongs to another event loop.
        """
        signal = lineup.signal
        self._outage = Patience(self._rules.outage, StopReason.OUTAGE, signal.pause)
        self._throttled = Patience(self._rules.throttled_for, StopReason.THROTTLED_FOR, signal.pause)
        # In an outage with an occasional 429, each of the two problems would reset the other's time limit forever.
        self._mixed = Patience(_longer(self._rules.outage, self._rules.throttled_for), StopReason.OUTAGE, signal.pause)
        self._admission = Admission(self._most_under_way, lambda: self._sender.pacer.rate)
        self._gate = self._sender.gate
        self._sender.transport.check_usable()
        self._lineup = lineup
        self._signal = signal
        self._pause = signal.pause
        self._tally = tally
        self._is_observed = self._sender.is_observed  # once per job: to check this for each item costs too much
        self._gate.watch(self._park)
        self._sender.transport.watch_closing(self._end_with_client)

    async def attempt(self, work: Work[ItemT]) -> Outcome | Again | None:
        """Make one attempt for an item. If its request can't be built, the item is `invalid` and isn't sent."""
        work.origin = None
        try:
            request = self._steps.request(work.item)
        except (ValueError, TypeError) as error:
            work.error = error
            return Outcome.INVALID
        if self._is_stale(work, request):  # no need to wait for a permit
            return Outcome.IN_DOUBT
        permit = self._admission.try_enter()
        ticket = None
        if permit is ORDINARY and not self._credentials_in_question.locked():
            ticket = self._gate.try_enter()
        if permit is None or ticket is None:
            turn = await self._turn_with_permit(permit)
            if turn is None:
                return None
            permit, ticket = turn
        if self._is_stale(work, request):
            self._gate.heard(ticket, Verdict.UNKNOWN)
            self._admission.leave(permit, Health.NOTHING)
            return Outcome.IN_DOUBT
        self._lineup.leaves(work)
        self._tally.under_way += 1
        try:
            exchange = await self._sender.exchange(request, ticket, self._gate, work.attempts, fresh=work.fresh)
        except BaseException:  # return the permit on every error, cancellation included
            self._admission.leave(permit, Health.NOTHING)
            raise
        finally:
            self._tally.under_way -= 1
        work.under_way = False
        response = exchange.response
        if response is not None:
            seconds = exchange.elapsed
            work.status = response.status
            self._tally.request(work.attempts, seconds)
            if self._is_tried:
                self._relieve()
            self._admission.answered(permit, seconds)
            if self._is_observed:
                self._sender.observe(request, exchange, work.attempts, None)
            return self._succeeded(work, request, exchange, response)
        if self._sender.transport.is_closed and not _is_answered(exchange):
            self._admission.leave(permit, Health.NOTHING)
            self._cut_off(work, request, exchange)
            return None
        health = self._take_note_of_failure(work, exchange)
        if health is Health.WORKS:
            self._admission.answered(permit, exchange.elapsed)
        else:
            self._admission.leave(permit, health)
        return await self._failed(work, request, exchange)

    def close(self) -> None:
        """Stop the timers and leave the send queue."""
        self._gate.unwatch(self._park)
        self._sender.transport.unwatch_closing(self._end_with_client)
        self._relieve()

    def _is_stale(self, work: Work[ItemT], request: Request) -> bool:
        """Return True if the item may have been sent too long ago to be sent again."""
        if work.maybe_sent is None or not request.goes_stale:
            return False
        return is_stale(work.maybe_sent, self._sender.moment())

    async def _turn_with_permit(self, permit: Permit | None) -> tuple[Permit, Ticket] | None:
        """Wait for a permit, if there is none, and for a slot in the send queue. Return None if the job is stopped."""
        while True:
            permit = permit or self._admission.try_enter() or await self._signal.cut_short(self._admission.enter)
            if permit is None:
                return None
            ticket = None
            try:
                ticket = await self._ticket()
            finally:
                if ticket is None:
                    self._admission.leave(permit, Health.NOTHING)
            if ticket is None:
                return None
            if self._admission.starts(permit):
                return permit, ticket
            self._gate.heard(ticket, Verdict.UNKNOWN)
            self._admission.leave(permit, Health.NOTHING)
            permit = None

    async def _ticket(self) -> Ticket | None:
        gate = self._gate
        while True:
            if self._credentials_in_question.locked():
                await self._signal.cut_short(self._until_credentials_are_clear)
            ticket = await self._turn()
            if ticket is None or not self._credentials_in_question.locked():
                return ticket
            gate.heard(ticket, Verdict.UNKNOWN)

    async def _turn(self) -> Ticket | None:
        """Wait for the end of a pause and a slot in the send queue. Return None if the job is stopped first."""
        gate, pause = self._gate, self._pause
        while True:
            if pause.is_on:
                await pause.pass_by()
            ticket = gate.try_enter() or await self._signal.cut_short(gate.enter)
            if ticket is None or not (self._signal.given or pause.is_on):
                return ticket
            gate.heard(ticket, Verdict.UNKNOWN)
            if self._signal.given:
                return None

    async def _until_credentials_are_clear(self) -> None:
        async with self._credentials_in_question:
            pass

    def _relieve(self) -> None:
        """Record a request that succeeded, which resets all time limits."""
        self._throttled.relief()
        self._outage.relief()
        self._mixed.relief()
        self._is_tried = False

    def _take_note_of_failure(self, work: Work[ItemT], exchange: Exchange) -> Health:
        """Count a failed request and update the time limits. Return the state of the server."""
        work.status = exchange.status
        self._is_tried = True
        throttled, answered = is_throttled(exchange.error), _is_answered(exchange)
        self._tally.request(work.attempts, exchange.elapsed if answered else None)
        if throttled:
            self._tally.throttled += 1
            self._throttled.trouble(self._end_for)
        elif answered:
            self._throttled.relief()
        if throttled and exchange.pause is not None and exchange.pause > LONG_PAUSE:
            self._park(exchange.pause)
        if is_out_of_descriptors(exchange.error):
            self._lower_concurrency()
            if self._tally.under_way:  # these will free their descriptors
                return Health.NOTHING
        if _is_outage(exchange):
            self._outage.trouble(self._end_for)
            self._mixed.trouble(self._end_for)
            return Health.FAILS
        self._outage.relief()
        if throttled:
            return Health.NOTHING
        self._mixed.relief()
        return Health.WORKS

    def _lower_concurrency(self) -> None:
        """Limit the requests in flight to those that got a file descriptor, and log it once."""
        self._admission.lower(self._tally.under_way)
        if not self._said_out_of_descriptors:
            self._said_out_of_descriptors = True
            _log.warning(
                "concurrency lowered to %d: too many open files; raise the limit (ulimit -n), which is %.0f",
                max(1, self._tally.under_way),
                descriptor_limit(),
            )

    def _park(self, seconds: float) -> None:
        """Handle a long Retry-After that any user of the API key has received. Log each such period once."""
        self._is_tried = True
        self._throttled.trouble(self._end_for)
        now = asyncio.get_running_loop().time()
        if now + seconds < self._said_parked_until + LONG_PAUSE:
            return
        self._said_parked_until = now + seconds
        patience = self._throttled.seconds
        too_long = patience is not None and patience < seconds
        _log.warning(
            "no requests are sent for %.0f s, because the API sent a Retry-After%s",
            seconds,
            f"; the job stops after {patience:.0f} s of that (throttled_for)" if too_long else "",
        )

    def _end_for(self, reason: StopReason) -> None:
        # If the last affected item is long done and none has come since, the problem may be over.
        if self._lineup.unsettled:
            self._signal.give(reason)

    def doubt(self, work: Work[ItemT]) -> Outcome | Again:
        """Decide what follows if the last response may belong to another request. It then counts as unanswered."""
        error = AdaptyConnectionError(
            "the connection received an extra response, or the response to another request", sent=True
        )
        work.value, work.fresh = None, True
        exchange = Exchange(None, error, None, 0.0, sent=work.sent)
        self._take_up(work, exchange)
        if self._wait(work, self._steps.request(work.item), exchange) is None:
            return self._classified(work, error)
        return Again(0.0, rationed=False)  # without the retry budget: the connection is at fault, not the server

    def _succeeded(self, work: Work[ItemT], request: Request, exchange: Exchange, response: Response) -> Outcome:
        work.origin, work.sent = exchange.origin, exchange.sent
        try:
            work.value = self._steps.read(response)
        except InvalidResponseError as error:
            error.attempts = work.attempts
            work.error = error
            return self._classified(work, error)
        work.error = None
        origin, is_answer = exchange.origin, self._steps.is_answer
        if origin is not None and origin.reused and is_answer is not None and not is_answer(request, work.value):
            origin.doubt()
        return self._steps.done

    async def _failed(
        self,
        work: Work[ItemT],
        request: Request,
        exchange: Exchange,
    ) -> Outcome | Again:
        error = self._take_up(work, exchange)
        wait = self._wait(work, request, exchange)
        self._sender.observe(request, exchange, work.attempts, wait)
        if wait is not None:
            return Again(wait, rationed=not is_throttled(error))
        if isinstance(error, AuthenticationError):
            return await self._look_into_credentials(work, error)
        if isinstance(error, PermissionDeniedError):
            self._signal.give(StopReason.PERMISSION)
        return self._classified(work, error)

    def _cut_off(self, work: Work[ItemT], request: Request, exchange: Exchange) -> None:
        """Leave an item in its state when the client was closed. This isn't a failure of the item or the server."""
        self._take_up(work, exchange)
        self._tally.request(work.attempts, None)
        self._sender.observe(request, exchange, work.attempts, None)
        self._end_with_client()  # also covers a borrowed session that its owner has closed

    def _end_with_client(self) -> None:
        self._signal.give(StopReason.CLOSED)

    def _take_up(self, work: Work[ItemT], exchange: Exchange) -> AdaptyError:
        """Record on an item what its failed attempt means for it, and complete the error with the state of the item."""
        error = exchange.error
        assert error is not None
        if error.maybe_executed and work.maybe_sent in (None, ANY_TIME):
            work.maybe_sent = exchange.sent
        error.maybe_executed = work.fate_unknown
        work.taken = work.taken or not (is_throttled(error) or is_unsent(error))
        error.attempts = work.attempts
        work.error = error
        work.origin, work.sent = exchange.origin, exchange.sent
        return error

    def _wait(self, work: Work[ItemT], request: Request, exchange: Exchange) -> float | None:
        """Return the seconds until the next attempt of the item, or None.

        This follows the client's retry policy, with two exceptions.

        A 429, a failure while the circuit breaker is open and a lack of file descriptors don't count as attempts,
        because the item didn't cause them. The time limit of the policy doesn't apply, because it is meant for a caller
        who waits for one call.
        """
        policy, rng = self._sender.retry, self._sender.rng
        assert exchange.error is not None
        if is_throttled(exchange.error):
            work.throttled += 1
            return policy.backoff_after(work.throttled, rng) if exchange.pause is None else exchange.pause
        is_innocent = self._admission.is_parked or is_out_of_descriptors(exchange.error)
        if not is_innocent or policy.attempts == 1:
            work.tries += 1
        if work.tries >= policy.attempts or not is_retryable(exchange.error, resendable=request.is_resendable):
            return None
        return policy.backoff_after(max(work.tries, 1), rng) if exchange.pause is None else exchange.pause

    def _classified(self, work: Work[ItemT], error: AdaptyError) -> Outcome:
        """Return the outcome for an error that isn't retried."""
        if is_absence(error):
            return self._missing(work, error)
        if isinstance(error, InvalidResponseError):
            # A success that can't be read: the write has most likely been executed.
            in_doubt = self._steps.done is not Outcome.FETCHED
        elif isinstance(error, AdaptyAPIError) and error.status < 500 and error.status != 408:
            return self._refused(work)
        else:
            in_doubt = work.fate_unknown
        return Outcome.IN_DOUBT if in_doubt else Outcome.FAILED

    def _refused(self, work: Work[ItemT]) -> Outcome:
        """Return the outcome of a rejected request. An earlier write without a response may have been executed."""
        in_doubt = work.fate_unknown and self._steps.done is not Outcome.FETCHED
        return Outcome.IN_DOUBT if in_doubt else Outcome.FAILED

    def _missing(self, work: Work[ItemT], error: AdaptyError) -> Outcome:
        outcome = self._steps.missing
        if outcome is Outcome.ALREADY_ABSENT and work.fate_unknown:
            outcome = Outcome.DELETED_UNCONFIRMED
        work.error = error if outcome.is_failure else None
        return outcome

    async def _look_into_credentials(self, work: Work[ItemT], error: AuthenticationError) -> Outcome:
        """Find the cause of a 401 with one GET of the same profile. No other request is sent until then.

        According to one page of Adapty's documentation, a delete may also answer 401 if the profile wasn't found.
        """
        async with self._credentials_in_question:
            is_over = self._signal.given and self._signal.reason is not StopReason.REQUESTED
            exchange = None if is_over else await self._probe(work)
            if exchange is None:
                return self._refused(work)
            if isinstance(exchange.error, AuthenticationError):
                self._signal.give(StopReason.CREDENTIALS)
            elif isinstance(exchange.error, PermissionDeniedError):
                self._signal.give(StopReason.PERMISSION)
            elif exchange.error is not None and is_absence(exchange.error):
                return self._missing(work, exchange.error)
            elif exchange.response is not None and self._steps.done is Outcome.FETCHED:
                return self._succeeded(work, self._steps.probe(work.item), exchange, exchange.response)
            return self._refused(work)

    async def _probe(self, work: Work[ItemT]) -> Exchange | None:
        """Get the item's profile, retrying after every 429. Return None if the job is stopped first."""
        request = self._steps.probe(work.item)
        for number in itertools.count(1):
            ticket = self._gate.try_enter() if self._signal.given else await self._turn()
            if ticket is None:
                break
            self._tally.under_way += 1
            try:
                exchange = await self._sender.exchange(request, ticket, self._gate, number)
            finally:
                self._tally.under_way -= 1
            if exchange.error is None:
                work.status = exchange.status
                self._tally.request(work.attempts, exchange.elapsed)
                self._relieve()
            else:
                self._take_note_of_failure(work, exchange)
            work.origin, work.sent = exchange.origin, exchange.sent
            throttled = is_throttled(exchange.error)
            pause = exchange.pause or self._sender.retry.backoff_after(number, self._sender.rng)
            self._sender.observe(request, exchange, number, pause if throttled else None)
            if not throttled:
                return exchange
            await self._signal.cut_short(functools.partial(asyncio.sleep, pause))
        return None


class AnyOperation(Generic[ItemT, ValueT]):
    """Run the caller's operation once per item."""

    def __init__(self, operation: Callable[[ItemT], Awaitable[ValueT]]) -> None:
        self._operation = operation

    def open(self, lineup: Lineup[ItemT], tally: Tally) -> None:
        """Prepare the operation."""
        self._lineup = lineup
        self._signal = lineup.signal
        self._tally = tally

    async def attempt(self, work: Work[ItemT]) -> Outcome:
        """Run the operation. ValueError and TypeError propagate."""
        self._lineup.leaves(work)
        began = asyncio.get_running_loop().time()
        self._tally.under_way += 1
        try:
            work.value = await self._operation(work.item)
        except (ValueError, TypeError):
            raise
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            work.error = RuntimeError("a task that the operation waited for was cancelled")
            return Outcome.IN_DOUBT
        except Exception as caught:  # noqa: BLE001 - the caller's code: a failure ends only its item
            work.error = caught
        finally:
            self._tally.under_way -= 1
        work.under_way = False
        error = work.error
        elapsed = asyncio.get_running_loop().time() - began
        if not isinstance(error, LocalRateLimitError):
            self._tally.request(1, elapsed if error is None else None)
        self._tally.throttled += is_throttled(error)
        if error is None:
            return Outcome.SUCCEEDED
        if isinstance(error, AuthenticationError):
            self._signal.give(StopReason.CREDENTIALS)
        elif isinstance(error, PermissionDeniedError):
            self._signal.give(StopReason.PERMISSION)
        in_doubt = isinstance(error, AdaptyError) and error.maybe_executed
        return Outcome.IN_DOUBT if in_doubt else Outcome.FAILED

    def doubt(self, work: Work[ItemT]) -> Outcome:
        """Return IN_DOUBT: only the caller's operation knows what its response means."""
        return Outcome.IN_DOUBT

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
