"""A command reads the key once, so later changes of the key's file don't affect it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from adapty_async import AdaptyClient
from adapty_async.cli import exit_status
from adapty_async.cli.jobs import client_from_env as connection
from adapty_async.cli.jobs import confirmation
from adapty_async.cli.jobs import ledger_job as recorded
from adapty_async.ledger import LedgerReader
from adapty_async.ledger.compliance_record import build_record
from adapty_async.testing import Fault
from adapty_async.testing.profiles import Profiles
from tests.cli.conftest import lead_to
from tests.cli.served import AT_ONCE, served
from tests.cli.witness import PEOPLE, Say, Witness, ids, ledger_of, run

SECOND = "secret_live_of_another_app"
FIRST = "secret_live_of_the_app"
DELETE = ("delete", *AT_ONCE, "--by", "customer_user_id")


class TwoApps(Witness):
    """Two apps with the same profiles and different keys. `exchange` writes the second key to the file."""

    def __init__(self, key_file: Path) -> None:
        super().__init__(profiles=PEOPLE, api_key=FIRST)
        self._first, self._second, self._file = self.profiles, Profiles(7), key_file
        for id_ in ids(PEOPLE):
            self._second.add(customer_user_id=id_)
        self.first_app, self.second_app = str(self._first.app_id), str(self._second.app_id)
        self.keys: list[tuple[str, str]] = []
        self.exchanges_on_get = False

    def write(self, key: str) -> None:
        self._file.write_text(key)
        self._file.chmod(0o600)

    async def _handle_api_request(self, request: web.BaseRequest) -> web.StreamResponse:
        key = request.headers["Authorization"].removeprefix("Api-Key ")
        self.keys.append((request.method, key))
        self.api_key = key
        self.profiles = self._second if key == SECOND else self._first
        response = await super()._handle_api_request(request)
        if self.exchanges_on_get and request.method == "GET":
            self.write(SECOND)
        return response

    @property
    def deleting(self) -> set[str]:
        """The keys that were used for deletions."""
        return {key for method, key in self.keys if method == "DELETE"}


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TwoApps]:
    simulator = TwoApps(tmp_path / "key.txt")
    with served(simulator):
        lead_to(simulator, monkeypatch, tmp_path)
        monkeypatch.delenv("ADAPTY_API_KEY")
        monkeypatch.setenv("ADAPTY_API_KEY_FILE", str(tmp_path / "key.txt"))
        simulator.write(FIRST)
        yield simulator


def app_in(ledger: Path) -> str | None:
    with LedgerReader(ledger) as reader:
        return build_record(reader).app_id


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("names_first", [True, False])
def test_a_key_that_changes_at_the_prompt_is_not_used(
    apps: TwoApps, people: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], *, names_first: bool
) -> None:
    def type_slowly(*_: str) -> bool:
        apps.write(SECOND)
        return True

    monkeypatch.setattr(confirmation, "require_terminal", lambda _: None)
    monkeypatch.setattr("adapty_async.cli.jobs.start.require_terminal", lambda _: None)
    monkeypatch.setattr(confirmation, "ask_to_type", type_slowly)
    app = apps.first_app if names_first else apps.second_app
    assert run(*DELETE, people, "--app", app, *options) == (0 if names_first else 3)
    assert {key for _, key in apps.keys} == {FIRST}
    if names_first and not options:
        assert app_in(ledger_of(people)) == apps.first_app


@pytest.mark.parametrize("options", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
def test_a_key_that_changes_while_the_app_is_looked_at_is_not_used(
    apps: TwoApps, people: Path, options: tuple[str, ...]
) -> None:
    apps.exchanges_on_get = True
    assert run(*DELETE, people, "--yes", "--app", apps.first_app, *options) == 0
    assert apps.deleting == {FIRST}
    if not options:
        assert app_in(ledger_of(people)) == apps.first_app


def half_done_by_an_old_key(apps: TwoApps, people: Path) -> Path:
    """Return the ledger of a job that was started with a key that was then replaced. One row failed."""
    apps.write("secret_live_exchanged")
    apps.inject(Fault.REDIRECT, method="DELETE")
    assert run(*DELETE, people, "--yes", "--app", apps.first_app, "--concurrency", 1) == 1
    apps.write(FIRST)
    apps.keys.clear()
    apps.exchanges_on_get = True
    return ledger_of(people)


def test_a_new_key_that_changes_while_its_app_is_looked_at_is_not_used(apps: TwoApps, people: Path) -> None:
    ledger = half_done_by_an_old_key(apps, people)
    assert run("retry-failed", ledger, "--new-key") == 0
    assert apps.deleting == {FIRST}
    assert app_in(ledger) == apps.first_app


def test_a_verification_goes_by_the_key_whose_app_was_looked_at(apps: TwoApps, people: Path) -> None:
    ledger = half_done_by_an_old_key(apps, people)
    assert run("verify", ledger, "--new-key") == 0
    assert {key for _, key in apps.keys} == {FIRST}


def test_a_verification_looks_at_the_app_of_the_key_that_it_began_with(
    apps: TwoApps, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = half_done_by_an_old_key(apps, people)
    made = connection.create_client_from_env

    def then_exchanged(timeout: float) -> AdaptyClient:
        client = made(timeout)
        apps.write(SECOND)
        return client

    monkeypatch.setattr("adapty_async.cli.jobs.verify.create_client_from_env", then_exchanged)
    assert run("verify", ledger, "--new-key") == 0
    assert {key for _, key in apps.keys} == {FIRST}


def test_a_plan_reads_a_key_that_comes_by_a_pipe(
    apps: TwoApps, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.write(write, FIRST.encode())
    os.close(write)
    monkeypatch.setenv("ADAPTY_API_KEY_FILE", f"/dev/fd/{read}")
    status, out, err = say("plan", people, "--by", "customer_user_id", "--probe", 5)
    os.close(read)
    assert status == 0, err
    assert apps.first_app in out


def test_a_run_with_a_key_that_nobody_has_looked_at_is_refused(
    apps: TwoApps, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out = recorded.LedgerJob.execute

    def with_another(self: recorded.LedgerJob, client: AdaptyClient) -> exit_status.ExitStatus:
        return carry_out(self, AdaptyClient(SECOND, base_url=client.base_url))

    monkeypatch.setattr(recorded.LedgerJob, "execute", with_another)
    status, _, err = say(*DELETE, people, "--yes", "--app", apps.first_app)
    assert status == 5
    assert "isn't the one that was checked" in err
    assert not apps.deleting
