"""The groups of options: each option is declared once, and passed to Typer and back by one decorator."""

import importlib
import inspect
from pathlib import Path
from typing import Annotated, Any, get_args

import attrs
import pytest
import typer

from adapty_async.cli.app import app
from adapty_async.cli.command_runner import add_debug_option
from adapty_async.cli.option_group_conversion import Overrides, Without, expand_groups, to_cli_options
from adapty_async.cli.options import Allowances, AttributeOptions, GuardOptions, SpeedOptions, StartOptions
from tests.cli.served import ROOT

COMMANDS = ROOT / "adapty_async" / "cli" / "commands"


@attrs.frozen(kw_only=True)
class Pair:
    """Two options."""

    number: Annotated[int, typer.Option("--count", "-c", show_default="many")] = 3
    flag: Annotated[bool, typer.Option("--flag")] = False


@attrs.frozen(kw_only=True)
class Nested:
    """An argument, and a group in a group."""

    name: Annotated[str, typer.Argument()]
    pair: Pair = attrs.field(factory=Pair)
    last: Annotated[Path | None, typer.Option()] = None


def parameters(annotation: object) -> dict[str, inspect.Parameter]:
    return {each.name: each for each in expand_groups("any", annotation, inspect.Parameter.empty)}


def run(annotation: object, *arguments: str) -> Any:
    """Run a command with a group, and return the group."""
    given: list[Any] = []

    def command(group: Any) -> None:
        given.append(group)

    command.__annotations__["group"] = annotation
    application = typer.Typer()
    application.command()(add_debug_option(command))
    typer.main.get_command(application).main(list(arguments), standalone_mode=False)
    return given[0]


def test_the_options_of_a_group_stand_in_its_order_and_those_of_a_nested_group_in_its_place() -> None:
    found = parameters(Nested)
    assert list(found) == ["name", "number", "flag", "last"]
    assert found["name"].default is inspect.Parameter.empty
    assert (found["number"].default, found["flag"].default, found["last"].default) == (3, False, None)


def test_a_command_gets_its_group() -> None:
    assert run(Nested, "ann") == Nested(name="ann")
    assert run(Nested, "ann", "-c", "7", "--flag", "--last", "x") == Nested(
        name="ann", pair=Pair(number=7, flag=True), last=Path("x")
    )


@pytest.mark.parametrize("left_out", ["pair", "number", "flag", "last"])
def test_what_is_left_out_has_no_option_and_its_default(left_out: str) -> None:
    annotation = Annotated[Nested, Without(left_out)]
    gone = {"number", "flag"} if left_out == "pair" else {left_out}
    assert parameters(annotation).keys() == {"name", "number", "flag", "last"} - gone
    assert run(annotation, "ann") == Nested(name="ann")


@pytest.mark.parametrize(
    "name", sorted(".".join(path.relative_to(COMMANDS).with_suffix("").parts) for path in COMMANDS.rglob("[a-z]*.py"))
)
def test_a_command_leaves_out_only_what_its_groups_have(name: str) -> None:
    command = getattr(importlib.import_module(f"adapty_async.cli.commands.{name}"), name.rpartition(".")[2])
    for group, *metadata in map(get_args, filter(get_args, command.__annotations__.values())):
        for without in (each for each in metadata if isinstance(each, Without)):
            assert without.names <= names_in(group)


def names_in(group: Any) -> set[str]:
    """Return the names of the options and groups in a group."""
    if get_args(group):
        return set().union(*map(names_in, get_args(group)))
    if not isinstance(group, type) or not attrs.has(group):
        return set()
    return {field.name for field in attrs.fields(group)}.union(*(names_in(field.type) for field in attrs.fields(group)))


def test_overrides_hold_what_was_given_alone() -> None:
    assert parameters(Overrides[Pair])["number"].default is None
    assert run(Overrides[Pair]) == Overrides()
    assert run(Overrides[Pair], "--count", "0") == Overrides({"number": 0})
    assert run(Overrides[Pair], "--flag").apply_to(Pair(number=9)) == Pair(number=9, flag=True)
    assert Overrides[Pair]({"number": 0}).apply_to(Pair(flag=True)) == Pair(number=0, flag=True)


def test_a_group_is_typed_again_as_the_options_that_differ_from_the_defaults() -> None:
    assert to_cli_options(SpeedOptions()) == []
    assert to_cli_options(SpeedOptions(pace="50", timeout=0.5)) == ["--timeout", "0.5", "--pace", "50"]
    assert to_cli_options(GuardOptions(max_profiles=7, no_canary=True)) == ["--max", "7", "--no-canary"]
    assert to_cli_options(Allowances(rounded=True)) == ["--allow-rounded"]
    assert to_cli_options(AttributeOptions(set=["a=1", "b=2"], empty="")) == [
        "--set",
        "a=1",
        "--set",
        "b=2",
        "--empty",
        "",
    ]
    assert to_cli_options(Pair(number=1)) == ["--count", "1"]


def test_every_option_of_a_new_job_is_one_of_delete_or_update() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    offered = {each.name for name in ("delete", "update") for each in commands[name].params}
    assert parameters(StartOptions).keys() <= offered
