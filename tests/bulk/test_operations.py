"""The registry of operations: a row for each, compared with its requests, its outcomes, its ledger and its command."""

import inspect
from typing import Any, Final

import attrs
import pytest

from adapty_async import ProfileAttributes
from adapty_async.bulk import BulkReport, Outcome, StopRules
from adapty_async.bulk.api import create_job, job_spec
from adapty_async.bulk.operations import OPERATIONS, OUTCOME_MEANINGS, AnyOperation, Effect, IdType
from adapty_async.cli.app import app
from adapty_async.cli.options import TargetCommand
from adapty_async.ledger.chunks import OUTCOMES, STATES

from .scripted import ABSENT, NO_CONTENT, PROFILE, Answer, lost, scripted_client

_ID: Final = "u1"
_CHANGE: Final = ("u1", ProfileAttributes(first_name="Jane"))
_PROFILE_ID: Final = "b1a9d8a8-1b1e-4f2e-9a51-6a2f4b0a6d11"


@attrs.frozen(kw_only=True)
class Row:
    """What is expected of an operation.

    `missing`: the outcome if the profile doesn't exist, and if it doesn't after a request without a response.
    `state`: the number of the outcome `done` in ledgers. `options`: those that its command has in addition to others.
    """

    method: str
    words: str
    item: Any = _ID
    success: Answer = PROFILE
    done: Outcome
    missing: tuple[Outcome, Outcome]
    state: int | None
    is_repeatable: bool
    options: frozenset[str]


ROWS: Final = {
    "delete": Row(
        method="DELETE",
        words="delete, deleted, deletion",
        success=NO_CONTENT,
        done=Outcome.DELETED,
        missing=(Outcome.ALREADY_ABSENT, Outcome.DELETED_UNCONFIRMED),
        state=9,
        is_repeatable=True,
        options=frozenset({"ledger", "app", "max_absent"}),
    ),
    "update": Row(
        method="PATCH",
        words="update, updated, update",
        item=_CHANGE,
        done=Outcome.UPDATED,
        missing=(Outcome.NOT_FOUND, Outcome.NOT_FOUND),
        state=10,
        is_repeatable=False,
        options=frozenset({"ledger", "app", "attributes"}),
    ),
    "create": Row(
        method="POST",
        words="create, created, creation",
        item=_CHANGE,
        done=Outcome.CREATED,
        missing=(Outcome.FAILED, Outcome.FAILED),
        state=11,
        is_repeatable=False,
        options=frozenset({"ledger", "attributes"}),
    ),
    "get": Row(
        method="GET",
        words="get, fetched, export",
        done=Outcome.FETCHED,
        missing=(Outcome.NOT_FOUND, Outcome.NOT_FOUND),
        state=None,
        is_repeatable=True,
        options=frozenset(),
    ),
}

each_operation = pytest.mark.parametrize("name", OPERATIONS)


async def report_of(spec: AnyOperation, item: Any, *answers: Answer, by: IdType = "customer_user_id") -> BulkReport:
    """Return the report of a job for one item."""
    client, transport = scripted_client(lambda _, number: answers[number - 1])
    report = await create_job(spec, client, [item], by=by, concurrency=1, pacer=None, stop=StopRules())
    assert {method for method, _ in transport.requests} == {ROWS[spec.name].method}
    assert len(transport.requests) == len(answers)
    return report


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a command."""
    commands: list[Any] = [each.callback for each in app.registered_commands]
    (command,) = (each for each in commands if each.__name__ == name)
    return dict(inspect.signature(command).parameters)


def test_every_operation_has_a_row_and_can_be_planned() -> None:
    assert list(OPERATIONS) == list(ROWS) == [command.value for command in TargetCommand]


@each_operation
def test_its_words(name: str) -> None:
    spec = OPERATIONS[name]
    assert f"{spec.name}, {spec.participle}, {spec.noun}" == ROWS[name].words
    assert bool(spec.warning) == (spec.effect is not Effect.READ)


@each_operation
async def test_its_request_and_its_outcomes(name: str) -> None:
    spec, row = OPERATIONS[name], ROWS[name]
    first, after_a_lost_response = row.missing
    assert (await report_of(spec, row.item, row.success)).counts == {row.done: 1}
    assert (await report_of(spec, row.item, ABSENT)).counts == {first: 1}
    assert (await report_of(spec, row.item, lost(), ABSENT)).counts == {after_a_lost_response: 1}


@each_operation
def test_its_repeats_are_as_safe_as_its_request_says(name: str) -> None:
    spec, row = OPERATIONS[name], ROWS[name]
    request = spec.build_callbacks("customer_user_id").build_request(row.item)
    client, _ = scripted_client(lambda *_: NO_CONTENT)
    assert job_spec(client, name, "customer_user_id").is_repeatable == spec.is_repeatable == row.is_repeatable
    assert request.goes_stale == (not row.is_repeatable)


@each_operation
def test_its_items_are_named_by_their_id(name: str) -> None:
    spec, row = OPERATIONS[name], ROWS[name]
    source = spec.build_source([row.item], "customer_user_id")
    assert source.get_id(row.item) == _ID
    assert (source.get_content(row.item) == _ID) == (not spec.has_attributes)


@each_operation
def test_a_ledger_stores_its_outcome_under_a_number_that_never_changes(name: str) -> None:
    spec, row = OPERATIONS[name], ROWS[name]
    assert STATES.get(spec.done_outcome) == spec.done_state == row.state
    assert spec.has_ledger == (row.state is not None)
    if row.state is not None:
        assert OUTCOMES[row.state] is row.done


@each_operation
def test_its_command_has_the_options_that_it_declares(name: str) -> None:
    spec, row = OPERATIONS[name], ROWS[name]
    declared = {
        "ledger": spec.has_ledger,
        "app": spec.has_ledger and spec.effect is not Effect.CREATE,
        "max_absent": spec.has_absent_limit,
        "attributes": spec.has_attributes,
    }
    assert {option for option, is_there in declared.items() if is_there} == row.options
    assert declared.keys() & parameters_of(name).keys() == row.options


@pytest.mark.parametrize("name", ["delete", "update", "get"])
async def test_profile_ids_are_accepted(name: str) -> None:
    spec, row = OPERATIONS[name], ROWS[name]
    item = (_PROFILE_ID, row.item[1]) if spec.has_attributes else _PROFILE_ID
    assert "profile_id" in spec.id_types
    assert (await report_of(spec, item, ABSENT, by="profile_id")).counts == {row.missing[0]: 1}


def test_which_profiles_are_gone_and_which_can_show_the_app() -> None:
    unfinished = {Outcome.FAILED, Outcome.IN_DOUBT, Outcome.NOT_ATTEMPTED}
    deleted = {Outcome.DELETED, Outcome.ALREADY_ABSENT, Outcome.DELETED_UNCONFIRMED}
    for name, gone, existing in (
        ("delete", deleted, unfinished),
        ("update", set(), unfinished | {Outcome.UPDATED}),
        ("create", set(), {Outcome.CREATED}),
        ("get", set(), unfinished | {Outcome.FETCHED}),
    ):
        spec = OPERATIONS[name]
        assert spec.gone_outcomes == gone
        assert spec.existing_outcomes == existing
        assert spec.is_verifiable == bool(gone)


def test_every_outcome_has_a_meaning() -> None:
    assert OUTCOME_MEANINGS.keys() == set(Outcome)
    assert len(STATES) == len(OUTCOMES)


def test_an_unknown_operation_has_no_job() -> None:
    client, _ = scripted_client(lambda *_: NO_CONTENT)
    with pytest.raises(ValueError, match="operation must be one of delete, update, create, get"):
        job_spec(client, "destroy", "customer_user_id")
