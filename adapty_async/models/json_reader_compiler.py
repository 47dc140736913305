"""Compiles functions that read a JSON object into an attrs class.

They take half the time of those that attrs and cattrs generate: values of type str, bool and int are checked inline,
and the fields are set on the mutable twin of a frozen class.
"""

from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any, Final, TypeVar, get_args

import attrs

from ..mutable_twin import make_mutable_twin

_T = TypeVar("_T")
_Reader = Callable[[Any, Any], Any]

_INLINE_TYPES: Final = frozenset({str, bool, int})


def compile_object_reader(cls: type[_T], get_reader: Callable[[Any], _Reader]) -> Callable[[Any, Any], _T]:
    """Return a function that reads a JSON object into a slotted attrs class without converters and factories.

    A field that is null counts as absent and gets its default. `get_reader` returns the function that reads a value of
    a type; it is called with the value and None. The returned function raises TypeError or KeyError, or an error of
    these functions.
    """
    names: dict[str, Any] = {"new": object.__new__, "Open": make_mutable_twin(cls), "Kind": cls}
    lines = [
        "def read(value, _kind):",
        "    if type(value) is not dict:",
        "        raise TypeError",
        "    get = value.get",
        "    made = new(Open)",
    ]
    for field in attrs.fields(cls):  # type: ignore[arg-type] # an attrs class, which its type doesn't show
        lines += (f"    {line}" for line in _generate_lines(field, names, get_reader))
    lines += ["    made.__class__ = Kind", "    return made"]
    exec("\n".join(lines), names)  # noqa: S102 - the text only contains names from our own classes
    read: Callable[[Any, Any], _T] = names["read"]
    return read


def _generate_lines(
    field: "attrs.Attribute[Any]", names: dict[str, Any], get_reader: Callable[[Any], _Reader]
) -> Iterator[str]:
    name, kind = field.name, _strip_none(field.type)
    names[f"default_{name}"] = field.default
    if field.default is attrs.NOTHING:
        names[f"read_{name}"] = get_reader(kind)
        yield f"made.{name} = read_{name}(value[{name!r}], None)"
        return
    yield f"field = get({name!r})"
    if kind in _INLINE_TYPES:
        yield f"if type(field) is not {kind.__name__}:"
        yield "    if field is not None:"
        yield "        raise TypeError"
        yield f"    field = default_{name}"
        yield f"made.{name} = field"
    else:
        names[f"read_{name}"] = get_reader(kind)
        yield f"made.{name} = default_{name} if field is None else read_{name}(field, None)"


def _strip_none(kind: Any) -> Any:
    arguments = get_args(kind)
    return next(argument for argument in arguments if argument is not NoneType) if NoneType in arguments else kind
