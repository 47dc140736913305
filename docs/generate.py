"""Generate the reference pages and the man pages of the commands.

Usage: python docs/generate.py [--check]
"""

import argparse
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

import attrs
import typer

from adapty_async.cli.app import app
from adapty_async.cli.exit_status import PRECEDENCE_HELP, ExitStatus
from adapty_async.testing.command import _make_parser as simulator_parser

DOCS: Final = Path(__file__).parent
PAGES: Final = DOCS / "reference" / "cli"
MAN_PAGES: Final = DOCS / "man"
PROGRAM: Final = "adapty-async"

_NOTE: Final = "<!-- Written by docs/generate.py from the command itself: edit its help, then run make reference. -->"
_MAN_SETTINGS: Final = f"""\
project = version = release = {PROGRAM!r}
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
smartquotes = False
suppress_warnings = ["toc.not_included"]
today = " "
"""
_SPECIAL: Final = re.compile(r"([\\`*_<>\[\]{}|~])")
_CODE: Final = re.compile(r"(?<![\w`-])(--[a-z][\w-]*|-[a-z]\b|[A-Z]+(?:_[A-Z]+)+|(?:FILE|people|\./\w+)(?:\.\w+)+)")
_LINK: Final = re.compile(r"\[(`[^`]+`)\]\(\w[\w-]*\.md\)")


@attrs.frozen
class Parameter:
    """An argument or an option, with its names, metavar and help."""

    names: tuple[str, ...]
    metavar: str
    help: str
    notes: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """All names, each with the metavar."""
        return ", ".join(f"{name} {self.metavar}".rstrip() for name in self.names)


@attrs.frozen
class Command:
    """A command, as described by its help. `text`: the paragraphs; a list contains lines of code, which are kept."""

    name: str
    usage: str
    summary: str
    text: tuple[str | list[str], ...]
    arguments: tuple[Parameter, ...] = ()
    options: tuple[Parameter, ...] = ()
    has_statuses: bool = True

    @property
    def title(self) -> str:
        """The program and the command."""
        return f"{PROGRAM} {self.name}".rstrip()


def commands() -> list[Command]:
    """Return the program and its commands, in the order of --help."""
    group: Any = typer.main.get_command(app)
    found = [_of_typer("", group)]
    for name, command in group.commands.items():
        found.append(_of_argparse(name) if name == "simulator" else _of_typer(name, command))
    return found


def _of_typer(name: str, command: Any) -> Command:
    context = typer.Context(command, info_name=name)
    parameters = [each for each in command.get_params(context) if not each.hidden]
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    options = [each for each in parameters if each.param_type_name == "option"]
    required = [_described(each, context).signature for each in options if each.required]
    tail = [_metavar(each, context) for each in arguments] if name else ["COMMAND [ARGUMENT]..."]
    summary, *text = _paragraphs(command.help)
    assert isinstance(summary, str)
    return Command(
        name=name,
        usage=" ".join(filter(None, [PROGRAM, name, *tail, *required, "[OPTION]..."] if name else [PROGRAM, *tail])),
        summary=summary,
        text=tuple(text),
        arguments=tuple(_described(each, context) for each in arguments),
        options=tuple(_described(each, context) for each in options),
        has_statuses=bool(command.epilog),
    )


def _described(parameter: Any, context: Any) -> Parameter:
    is_option = parameter.param_type_name == "option"
    metavar = _metavar(parameter, context)
    notes = []
    if is_option and parameter.required:
        notes.append("Required.")
    minimum, maximum = (_of_type(parameter, bound) for bound in ("min", "max"))
    if minimum is not None:
        notes.append(f"From {minimum:,} to {maximum:,}." if maximum is not None else f"At least {minimum:,}.")
    if isinstance(parameter.show_default, str):
        text = parameter.show_default
        notes.append(f"Default: {text}." if " " in text else f"Default: `{text}`.")
    elif parameter.show_default and parameter.default not in (None, False) and not parameter.multiple:
        notes.append(f"Default: `{getattr(parameter.default, 'value', parameter.default)}`.")
    names = tuple(sorted(parameter.opts, key=len)) if is_option else (metavar,)
    return Parameter(names, metavar if is_option else "", parameter.help or "", tuple(notes))


def _metavar(parameter: Any, context: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    if parameter.metavar:
        return str(parameter.metavar)
    choices = _of_type(parameter, "choices")
    if choices:
        return "|".join(str(getattr(choice, "value", choice)) for choice in choices)
    return str(parameter.name).upper()


def _of_type(parameter: Any, name: str) -> Any:
    """Return a property of the values of a parameter. Before Typer 0.29, the parameter's type has it."""
    kind = getattr(parameter, "type", None)
    if kind is not None:
        return getattr(kind, name, None)
    if name != "choices":
        return getattr(parameter, name)
    annotation = parameter.type_descriptor.annotation
    return list(annotation) if isinstance(annotation, type) and issubclass(annotation, Enum) else None


def _of_argparse(name: str) -> Command:
    """Describe the simulator, which doesn't use Typer."""
    parser = simulator_parser(f"{PROGRAM} {name}")
    summary, _, rest = (parser.description or "").partition("\n\n")
    first, _, more = summary.partition("\n")
    options = [
        Parameter(
            tuple(sorted(action.option_strings, key=len)),
            "" if action.nargs == 0 else str(action.metavar or action.dest.upper()),
            (action.help or "").removesuffix("."),
        )
        for action in parser._actions  # noqa: SLF001 - there is no public list of actions
    ]
    options = [attrs.evolve(each, help=f"{each.help[:1].upper()}{each.help[1:]}.") for each in options]
    group: Any = typer.main.get_command(app)
    return Command(
        name=name,
        usage=f"{PROGRAM} {name} [OPTION]...",
        summary=str(group.commands[name].help).partition("\n")[0].rstrip("."),
        text=(f"{first} {more}".strip(), *_paragraphs(rest), *_paragraphs(parser.epilog or "")),
        options=tuple(options),
        has_statuses=False,
    )


def _paragraphs(text: str) -> list[str | list[str]]:
    """Split a help text into paragraphs. A paragraph with a backspace, or an indented one, is kept line by line."""
    found: list[str | list[str]] = []
    for part in re.split(r"\n\s*\n", textwrap.dedent(text).strip("\n")):
        lines = [line.rstrip() for line in part.splitlines() if line.strip() != "\b"]
        if lines and lines[0].lower() == "examples:":
            lines = lines[1:]
        if "\b" in part or (lines and all(line.startswith(" ") for line in lines)):
            found.append(textwrap.dedent("\n".join(lines)).splitlines())
        elif lines:
            found.append(" ".join(line.strip() for line in lines))
    return found


def page(command: Command, others: list[Command]) -> str:
    """Return the page of a command. The page of the program lists the others."""
    return "\n".join(_lines(command, others)).rstrip("\n") + "\n"


def _lines(command: Command, others: list[Command]) -> Iterator[str]:
    yield from (f"# {command.title}", "", _NOTE, "", markdown(_sentence(command.summary)), "")
    yield from ("## Usage", "", "```text", command.usage, "```", "")
    examples = [part for part in command.text if isinstance(part, list) and command.name]
    for part in command.text:
        if part in examples:
            continue
        yield from ([markdown(part), ""] if isinstance(part, str) else _block(part))
    if examples:
        yield from ("## Examples", "")
        for block in examples:
            yield from _block(block)
    if not command.name:
        yield from ("## Commands", "")
        for other in others:
            yield from (f"[`{other.title}`]({other.name}.md)", f": {markdown(_sentence(other.summary))}", "")
    yield from ("```{program} " + command.title, "```", "")
    for title, parameters in (("Arguments", command.arguments), ("Options", command.options)):
        if parameters:
            yield from (f"## {title}", "")
        for parameter in parameters:
            text = " ".join([markdown(_sentence(parameter.help)), *parameter.notes])
            yield from ("```{option} " + parameter.signature, "", text, "```", "")
    if command.has_statuses:
        yield from ("## Exit status", "", *_statuses())


def _statuses() -> Iterator[str]:
    for status in sorted(ExitStatus):
        yield from (f"{status.value}", f": {_sentence(status.description[0].upper() + status.description[1:])}", "")
    yield PRECEDENCE_HELP


def _block(lines: list[str]) -> list[str]:
    is_shell = any(line.startswith((PROGRAM, "export ")) for line in lines)
    return ["```sh" if is_shell else "```text", *lines, "```", ""]


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", ":", "?")) else f"{text}."


def markdown(text: str) -> str:
    """Convert plain text to Markdown. Options, variables and file names become code; nothing else is markup."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if at % 2 else _SPECIAL.sub(r"\\\1", part) for at, part in enumerate(parts))


def pages() -> dict[Path, str]:
    """Return the text of each page by its path."""
    program, *others = commands()
    texts = {PAGES / f"{command.name}.md": page(command, []) for command in others}
    return {PAGES / "index.md": page(program, others), **texts}


def man_pages(sources: dict[Path, str]) -> dict[Path, str]:
    """Return the man page of each command by its path. Sphinx builds them from the pages."""
    entries = []
    for command in commands():
        name = command.title.replace(" ", "-")
        entries.append((command.name or "index", name, command.summary, "", 1))
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder, "source"), Path(folder, "built")
        source.mkdir()
        (source / "conf.py").write_text(f"{_MAN_SETTINGS}man_pages = {entries!r}\n", encoding="utf-8")
        for path, text in sources.items():
            (source / path.name).write_text(_for_man(text), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "-b", "man", source, built], check=True)  # noqa: S603 - our own interpreter
        return {MAN_PAGES / path.name: path.read_text(encoding="utf-8") for path in built.glob("*.1")}


def _for_man(text: str) -> str:
    """Remove the summary and the links of a page. Sphinx adds the summary to the name section."""
    title, _, _, _, _, _, *rest = text.splitlines(keepends=True)
    body = "".join(rest).replace("## Usage", "## Synopsis", 1)
    return title + "\n" + _LINK.sub(r"\1", body)


def stale(texts: dict[Path, str]) -> list[Path]:
    """Return the files that are out of date or no longer generated."""
    present = {*PAGES.glob("*.md"), *MAN_PAGES.glob("*.1")}
    differing = [path for path, text in texts.items() if path not in present or path.read_text("utf-8") != text]
    return sorted([*differing, *(present - texts.keys())])


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a file is out of date")
    check = parser.parse_args(arguments).check
    texts = pages()
    texts.update(man_pages(texts))
    outdated = stale(texts)
    for path in outdated:
        if check:
            print(f"{path.relative_to(DOCS.parent)} is out of date: run make reference", file=sys.stderr)
        elif path in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
        else:
            path.unlink()
    return int(check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
