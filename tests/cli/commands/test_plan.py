"""The command `plan`: the duration of a deletion, and a sample of its profiles."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapty_async import UNPACED
from adapty_async.bulk.job_store import JobSpec
from adapty_async.cli.exit_status import CommandError
from adapty_async.cli.jobs.client_from_env import create_client_from_env
from adapty_async.cli.jobs.id_mask import mask_id
from adapty_async.cli.jobs.pace import Pace, find_state_file
from adapty_async.cli.jobs.profile_sample import fetch_profile_sample
from adapty_async.ledger.job_preparation import create_job
from adapty_async.ledger.named_and_temporary import NamedLedger
from adapty_async.ledger.store import Store
from adapty_async.pacing.shared.remembered_limit import load_remembered_limit
from adapty_async.pacing.shared.state import SharedState
from adapty_async.pacing.shared.state_file import StateFile
from adapty_async.testing import Fault, Simulator
from tests.bulk.scripted import FORBIDDEN, scripted_client
from tests.cli.served import AT_ONCE, environment
from tests.cli.witness import Say, ids

JOB = JobSpec("delete", "customer_user_id", "https://api.test", "fingerprint", is_repeatable=True)
PLAN = ("plan", "--by", "customer_user_id")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.txt"
    path.write_text("\n".join([*ids(30), *(f"nobody-{number}" for number in range(10))]))
    return path


def remember(monkeypatch: pytest.MonkeyPatch, folder: Path, found: float, age: float = 0.0) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    path = find_state_file(create_client_from_env())
    assert path is not None
    now = time.time() - age
    file = StateFile(path)
    assert file.read_new_state() is None
    state = SharedState.start(1.0, now, 5.0, None)
    state.coordination.last_limit = (found, now)
    file.store(state.encode())
    file.close()
    return path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "about 0:00:06 at 7.0 requests per second"),
        (("--pace", "full"), "about 0:00:04 at 9.8 requests per second"),
        (("--pace", "full", "--max-rate", "2"), "about 0:00:20 at 2.0 requests per second"),
        (("--pace", "4"), "about 0:00:10 at 4.0 requests per second"),
        (("--pace", "4", "--max-rate", "1"), "about 0:00:40 at 1.0 requests per second"),
    ],
)
def test_it_tells_the_time_at_the_rate_to_expect(
    sim: Simulator,
    tmp_path: Path,
    people: Path,
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    says: str,
) -> None:
    remember(monkeypatch, tmp_path, 10.0)
    status, out, _ = say(*PLAN, people, *options)
    assert status == 0
    assert says in out
    if options:
        assert f"--by customer_user_id {' '.join(options)}" in out
    assert sim.stats.requests == 0


def test_a_limit_of_the_day_before_yesterday_is_forgotten(
    sim: Simulator, tmp_path: Path, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(monkeypatch, tmp_path, 10.0, age=48 * 3600.0)
    assert "no rate limit is stored" in say(*PLAN, people)[1]


def test_a_state_that_cannot_be_read_is_none(
    sim: Simulator, tmp_path: Path, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = remember(monkeypatch, tmp_path, 10.0)
    path.write_bytes(b"anything else")
    assert load_remembered_limit(path) is None
    assert "no rate limit is stored" in say(*PLAN, people)[1]
    assert path.read_bytes() == b"anything else"


def test_without_a_key_a_rate_can_be_given(
    sim: Simulator, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADAPTY_API_KEY")
    assert "no rate limit is stored" in say(*PLAN, people)[1]
    assert "about 0:00:10 at 4.0 requests per second" in say(*PLAN, people, "--pace", "4")[1]


def test_a_sample_tells_how_many_exist_and_in_which_app(sim: Simulator, people: Path, say: Say) -> None:
    status, out, _ = say(*PLAN, people, "--probe", 4, *AT_ONCE)
    figures = dict(line.rsplit(maxsplit=1) for line in out.splitlines() if line.startswith(("exist", "do not")))
    assert status == 0
    assert figures == {"exist": "3", "do not exist": "1"}
    assert f"app                 {sim.profiles.app_id}" in out
    assert f" --app {sim.profiles.app_id}" in out.splitlines()[-1]
    assert "Nothing was changed" in out
    assert sim.stats.responses == {("GET", 200): 3, ("GET", 404): 1}
    assert len(sim.profiles) == 30


def test_a_sample_is_of_all_where_there_are_no_more(sim: Simulator, people: Path, say: Say) -> None:
    assert say(*PLAN, people, "--probe", 1000, *AT_ONCE)[0] == 0
    assert sim.stats.requests == 40


@pytest.mark.parametrize(
    ("purpose", "says"),
    [
        ("create", "unknown: none of them exists, as expected before they are created"),
        ("get", "unknown: none of them exists; check the key, --by and --column"),
    ],
)
def test_nobody_is_expected_to_exist_before_the_creation_alone(
    sim: Simulator, tmp_path: Path, say: Say, purpose: str, says: str
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("customer_user_id\nnobody\nnobody else\n")
    status, out, _ = say(*PLAN, path, "--for", purpose, "--probe", 2, *AT_ONCE)
    assert status == 0
    assert f"{'app':<20}{says}\n" in out


def test_a_sample_that_finds_nobody_says_what_to_check(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("nobody\nnobody else\n")
    status, out, _ = say(*PLAN, path, "--probe", 2, *AT_ONCE)
    assert status == 0
    assert "check the key, --by and --column" in out


def test_a_sample_with_a_wrong_key_is_exit_4(
    sim: Simulator, people: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_of_another_app")
    status, _, err = say(*PLAN, people, "--probe", 4, *AT_ONCE)
    assert status == 4
    assert "set ADAPTY_API_KEY" in err


def test_a_dead_key_is_exit_4_where_there_is_nobody_to_ask_for(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(f"{'x' * 5000}\n")
    assert say(*PLAN, path, "--probe", 4, *AT_ONCE)[0] == 0
    monkeypatch.setenv("ADAPTY_API_KEY", "secret_live_of_yesterday")
    assert say(*PLAN, path, "--probe", 4, *AT_ONCE)[0] == 4


def test_a_sample_without_answers_says_so(sim: Simulator, people: Path, say: Say) -> None:
    sim.inject(*[Fault.REDIRECT] * 2)
    status, out, _ = say(*PLAN, people, "--probe", 3, *AT_ONCE)
    assert status == 3
    assert re.search(r"^exist +1\n", out, re.MULTILINE)
    assert "not all requests were answered (AdaptyAPIError 307, 2 times): try again later" in out


@pytest.mark.parametrize("count", [1, 3])
def test_a_sample_that_nobody_answers_says_nothing_of_profiles_and_app(
    people: Path, say: Say, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setenv("ADAPTY_API_KEY", "secret")
    monkeypatch.setenv("ADAPTY_BASE_URL", "http://127.0.0.1:1")
    status, out, _ = say(*PLAN, people, "--probe", count, *AT_ONCE)
    assert status == 3
    assert re.search(
        r"^no request was answered \(AdaptyConnectionError, \d+ times\): see adapty-async doc", out, re.MULTILINE
    )
    assert "check the key" not in out
    assert "exist" not in out


async def test_a_sample_that_the_key_may_not_have_says_so() -> None:
    client, _ = scripted_client(lambda request, number: FORBIDDEN)
    with pytest.raises(CommandError, match=r"the key may not read profiles \(403\)") as caught:
        await fetch_profile_sample(client, ["u1"], by="customer_user_id", pacer=UNPACED)
    assert caught.value.status == 4


# Other commands


def plan_for(say: Say, purpose: str, file: Path, *options: object) -> tuple[int, list[str]]:
    status, out, _ = say(*PLAN, file, "--for", purpose, *options)
    return status, out.splitlines()


def figures_of(lines: list[str]) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)  +(\d+)$", "\n".join(lines), re.MULTILINE))


CHANGES = """\
customer_user_id,email,custom.team,custom.age:number,installation_meta.device_id
u1,ann@example.com,blue,7,
u2,NULL,EMPTY,0,3286abd3-48b0-4e9c-a5f6-ac0a006333a6
u3,,red,,
u3,,red,,
u4,,,,
u5,no address,red,,
"""


def test_what_an_update_sets_clears_and_empties_is_counted_and_nothing_sent(
    sim: Simulator, tmp_path: Path, say: Say
) -> None:
    file = tmp_path / "changes.csv"
    file.write_text(CHANGES)
    options = ("--set", "custom.plan=x", "--null", "NULL", "--empty", "EMPTY", "--attributes")
    named = "email,custom.team,custom.age:number,installation_meta.device_id"
    status, lines = plan_for(say, "update", file, *options, named)
    assert status == 0
    assert figures_of(lines) == {"rows": "6", "profiles": "4", "duplicates": "1", "excluded": "0", "invalid": "1"}
    assert [line.removeprefix("attributes").strip() for line in lines if "cleared" in line] == [
        "10 set, 1 cleared, 1 emptied",
        "email: 1 set, 1 cleared, 0 emptied",
        "custom.team: 2 set, 0 cleared, 1 emptied",
        "custom.age: 2 set, 0 cleared, 0 emptied",
        "custom.plan: 4 set, 0 cleared, 0 emptied",
        "installation_meta.device_id: 1 set, 0 cleared, 0 emptied",
    ]
    assert lines[-1] == (
        f"  adapty-async update {file} --by customer_user_id --attributes {named} --set custom.plan=x --null NULL "
        "--empty EMPTY"
    )
    assert sim.stats.requests == 0


def test_a_name_of_its_own_in_each_row_makes_no_line_for_each(tmp_path: Path, say: Say) -> None:
    file = tmp_path / "changes.jsonl"
    rows = [{"customer_user_id": f"u{number}", "custom_attributes": {f"key-{number}": "x"}} for number in range(250)]
    file.write_text("\n".join(map(json.dumps, rows)))
    status, lines = plan_for(say, "update", file)
    assert status == 0
    counted = [line.strip() for line in lines if "emptied" in line]
    assert (len(counted), counted[-1]) == (102, "all others: 150 set, 0 cleared, 0 emptied")


@pytest.mark.parametrize(
    ("purpose", "row", "status", "profiles"),
    [("update", "u4,", 2, ""), ("create", "u4,", 0, "1"), ("delete", "u4,", 0, "1"), ("get", "u4,", 0, "1")],
)
def test_a_row_is_judged_as_the_command_would_that_it_is_for(
    tmp_path: Path, say: Say, purpose: str, row: str, status: int, profiles: str
) -> None:
    file = tmp_path / "people.csv"
    file.write_text(f"customer_user_id,email\n{row}\n")
    planned, lines = plan_for(say, purpose, file)
    assert (planned, figures_of(lines).get("profiles", "")) == (status, profiles)
    assert status or lines[-1].startswith(f"  adapty-async {purpose} {file} --by customer_user_id")


def test_the_command_to_type_is_one_that_works(
    sim: Simulator, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text("customer_user_id,email\nuser-000001@example.com,ann@example.com\n")
    for purpose in ("update", "create", "get", "delete"):
        typed = plan_for(say, purpose, Path("people.csv"), *AT_ONCE)[1][-1].partition(" > ")[0]
        confirmed = () if purpose == "get" else ("--yes", "--ledger", f"{purpose}.db")
        assert say(*shlex.split(typed)[1:], *confirmed)[0] == 0
    assert sim.stats.responses == {("PATCH", 200): 1, ("POST", 200): 1, ("GET", 200): 1, ("DELETE", 204): 1}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--set", "email=a@b.example"), "delete writes no attributes"),
        (("--for", "get", "--null", "x"), "get writes no attributes"),
        (("--for", "get", "--exclude", "held.csv"), "get has no --exclude"),
    ],
)
def test_what_the_command_would_not_take_is_refused(
    people: Path, say: Say, options: tuple[str, ...], says: str
) -> None:
    status, out, err = say(*PLAN, people, *options)
    assert (status, out) == (2, "")
    assert says in err


def test_a_creation_by_profile_id_is_refused_as_by_the_command(people: Path, say: Say) -> None:
    status, _, err = say("plan", people, "--by", "profile_id", "--for", "create")
    assert status == 2
    assert err == "adapty-async: profiles can only be created by customer user ID: pass --by customer_user_id\n"


# The first line of a single column


@pytest.mark.parametrize(
    ("name", "first", "says"),
    [
        ("ids.csv", "u1", "taken as an ID: a column's name would be customer_user_id, or id"),
        ("ids.csv", "customer_user_id", "taken as the column's name, not as an ID"),
        ("people.ids", "id", "taken as the column's name, not as an ID"),
    ],
)
def test_it_says_what_the_first_line_of_a_lone_column_was_taken_for(
    tmp_path: Path, say: Say, name: str, first: str, says: str
) -> None:
    path = tmp_path / name
    path.write_text(f"{first}\nu2\n")
    assert f"first line          {says}\n" in say(*PLAN, path)[1]


def test_of_several_columns_there_is_nothing_to_say(tmp_path: Path, say: Say) -> None:
    for name, content in (("a.csv", "customer_user_id,x\nu1,2\n"), ("a.jsonl", '"u1"\n')):
        (tmp_path / name).write_text(content)
        assert "first line" not in say(*PLAN, tmp_path / name)[1]


# A closed standard output


@pytest.mark.parametrize("command", ["plan people.txt --by customer_user_id", "status job.db", "doctor"])
def test_a_result_that_goes_nowhere_is_no_success(people: Path, command: str) -> None:
    ledger = Store.open(
        people.parent / "job.db", lambda store: create_job(store, NamedLedger(people.parent / "job.db"), JOB, 1)
    )
    ledger.close()
    line = f"exec {shlex.quote(sys.executable)} -m adapty_async {command} >&-"
    ended = subprocess.run(  # noqa: S603 - our own interpreter
        ["/bin/sh", "-c", line], env=environment({}), cwd=people.parent, stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("adapty-async: there is no standard output to write to")


def test_ids_are_shown_by_their_ends_alone(sim: Simulator, tmp_path: Path, say: Say) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("ann@example.com\nbea@example.com\n7654321\n")
    _, out, _ = say(*PLAN, path)
    assert "first ID            a…m (15 characters)" in out
    assert "last ID             … (7 characters)" in out
    assert "example" not in out.replace(str(tmp_path), "")
    assert mask_id("12345678") == "1…8 (8 characters)"


def test_the_rate_to_expect_of_a_number_needs_no_key() -> None:
    assert Pace.from_options("50", "80").estimate_rate(None) == 50
    assert Pace.from_options("full", None).estimate_rate(None) is None


@pytest.mark.parametrize("command", ["delete", "update", "create"])
def test_a_dry_run_is_the_plan(sim: Simulator, tmp_path: Path, say: Say, command: str) -> None:
    file, held = tmp_path / "people.csv", tmp_path / "held.txt"
    file.write_text("customer_user_id,email\nuser-000001@example.com,ann@example.com\nu2,\nu2,\n")
    held.write_text("u2\n")
    options = ("--by", "customer_user_id", "--exclude", held, "--pace", "7", "--skip-damaged")
    planned = say("plan", file, "--for", command, *options)
    assert planned[0] == 0
    assert say(command, file, *options, "--dry-run") == say(command, "-n", file, *options) == planned
    assert sim.stats.requests == 0
    assert {path.name for path in tmp_path.iterdir()} == {"people.csv", "held.txt"}


def test_a_dry_run_shows_the_command_with_its_guards(people: Path, say: Say) -> None:
    options = ("--by", "customer_user_id", "--max", "50", "--no-canary", "--operator", "Ann", "--failures", "left.csv")
    status, out, _ = say("delete", people, *options, "--ledger", "job.db", "-n", "-y")
    assert status == 0
    assert out.splitlines()[-1].endswith(
        "--by customer_user_id --max 50 --no-canary --ledger job.db --operator Ann --failures left.csv"
    )


def test_a_dry_run_of_a_bad_file_ends_as_the_plan_does(tmp_path: Path, say: Say) -> None:
    file = tmp_path / "people.csv"
    file.write_text("customer_user_id\n1.23E+15\n")
    planned = say(*PLAN, file)
    assert planned[0] == 2
    assert say("delete", file, "--by", "customer_user_id", "-n") == planned


def test_a_dry_run_leaves_standard_output_to_the_events(people: Path, say: Say) -> None:
    status, out, err = say("delete", people, "--by", "customer_user_id", "-n", "--json")
    assert status == 0
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["end"]
    assert "Nothing was sent" in err
