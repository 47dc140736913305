"""Settings of the documentation, for Sphinx; `make docs` builds it."""

import builtins
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

project = "adapty-async"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "man"]
smartquotes = False  # options begin with "--"

html_theme = "furo"
html_title = "adapty-async"
html_copy_source = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

default_role = "code"  # the role of `text` in docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Types of other packages aren't looked up, because that needs a network.
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(sorted(sys.stdlib_module_names | {'aiohttp'}))})\..*"),
    (r"py:.*", rf"({'|'.join(name for name in dir(builtins) if name[0].isalpha())})"),
]


def _leave_private(_app: Any, _env: Any, node: Any, content: Any) -> Any:
    """Show a private type, such as a type variable, without a link. Return None for all other references."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if not module.startswith("adapty_async."):
        return None
    try:
        found = import_module(module)
    except ModuleNotFoundError:
        return None
    return content if hasattr(found, name) and name not in getattr(found, "__all__", ()) else None


def _without_factories(
    _app: Any, _kind: str, _name: str, _object: Any, _options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Replace a default that attrs creates by a factory with `...`, which can be parsed."""
    return signature and signature.replace("<factory>", "..."), returned


def setup(app: Any) -> None:
    """Register the functions above."""
    app.connect("autodoc-process-signature", _without_factories)
    app.connect("missing-reference", _leave_private)
