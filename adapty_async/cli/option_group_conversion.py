"""Conversion of groups of options to parameters of Typer and to command lines.

A field is `Annotated[type, typer.Option(...)]`, or a further group. `command_runner.py` passes the options of
the groups in a command's signature to Typer.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args, get_origin

import attrs
import typer

_Group = TypeVar("_Group", bound=attrs.AttrsInstance)


class Without:
    """Leave out options or groups of a group, as in `Annotated[GuardOptions, Without("max_absent")]`."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)


@attrs.frozen
class Overrides(Generic[_Group]):
    """The options of a group that are given again when a job is resumed. The others keep their values.

    `given`: the values by the name of the field. A flag can only be turned on.
    """

    given: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    def apply_to(self, group: _Group) -> _Group:
        """Return a group with the given values."""
        return attrs.evolve(group, **self.given)  # type: ignore[misc]  # it wants a class, not a protocol


class _GroupType(NamedTuple):
    """The parts of the annotation of a group."""

    group: type[attrs.AttrsInstance]
    is_override: bool
    left_out: frozenset[str]


def expand_groups(name: str, annotation: Any, default: Any) -> Iterator[inspect.Parameter]:
    """Return the options of a group as parameters, or the parameter itself if it isn't a group."""
    group_type = _parse_group_type(annotation)
    if group_type is None:
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        return
    for field in attrs.fields(group_type.group):
        if field.name not in group_type.left_out:
            default = inspect.Parameter.empty if field.default is attrs.NOTHING else field.default
            parameters = expand_groups(field.name, _leave_out(field.type, group_type.left_out), default)
            yield from map(_make_optional, parameters) if group_type.is_override else parameters


def build_groups(name: str, annotation: Any, arguments: dict[str, Any]) -> Any:
    """Take the values of a parameter of `expand_groups` out of the arguments, and return its group."""
    group_type = _parse_group_type(annotation)
    if group_type is None:
        return arguments.pop(name)
    values = {
        field.name: build_groups(field.name, _leave_out(field.type, group_type.left_out), arguments)
        for field in attrs.fields(group_type.group)
        if field.name not in group_type.left_out
    }
    if group_type.is_override:
        return Overrides({key: value for key, value in values.items() if value is not None and value is not False})
    return group_type.group(**values)


def to_cli_options(group: attrs.AttrsInstance) -> list[str]:
    """Return the command-line options of a group whose values aren't the defaults."""
    words: list[str] = []
    for field in attrs.fields(type(group)):
        value = getattr(group, field.name)
        if value == field.default or value is None:
            continue
        name = _get_option_name(field.name, field.type)
        if value is True:
            words.append(name)
            continue
        for each in value if isinstance(value, list) else [value]:
            words += [name, f"{each:g}" if isinstance(each, float) else str(each)]
    return words


def _parse_group_type(annotation: Any) -> _GroupType | None:
    """Return the parts of the annotation of a group, or None for that of a single option."""
    left_out: frozenset[str] = frozenset()
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        left_out = left_out.union(*(each.names for each in metadata if isinstance(each, Without)))
    is_override = get_origin(annotation) is Overrides
    group = get_args(annotation)[0] if is_override else annotation
    return _GroupType(group, is_override, left_out) if isinstance(group, type) and attrs.has(group) else None


def _leave_out(annotation: Any, names: frozenset[str]) -> Any:
    """Leave the options out of the groups in a group, too."""
    return Annotated[annotation, Without(*names)] if names and _parse_group_type(annotation) else annotation


def _make_optional(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return an option that has no value unless it is given."""
    type_, info = get_args(parameter.annotation)
    if type_ is bool:
        return parameter
    info = copy.copy(info)
    info.show_default = False
    return parameter.replace(annotation=Annotated[type_ | None, info], default=None)


def _get_option_name(name: str, annotation: Any) -> str:
    """Return the option of a field: the long one of those declared, or else the one that Typer derives."""
    (info,) = (each for each in get_args(annotation)[1:] if isinstance(each, typer.models.OptionInfo))
    declared = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    return next((each for each in declared if each.startswith("--")), f"--{name.replace('_', '-')}")
