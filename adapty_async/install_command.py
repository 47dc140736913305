"""The command that installs an extra of this package.

It uses the source that the package itself was installed from, because no package index has it.
"""

import importlib.metadata
import json
import shlex
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

_DISTRIBUTION_NAME: Final = "adapty-async"
_PROJECT_ROOT: Final = Path(__file__).parents[1]


def format_install_command(extra: str) -> str:
    """Return the command that installs an extra."""
    source = _find_source()
    if source is None:
        return f"pip install '.[{extra}]' in a clone of the repository that {_DISTRIBUTION_NAME} came from"
    if isinstance(source, Path):
        return f"pip install {shlex.quote(f'{source}[{extra}]')}"
    return f"pip install {shlex.quote(f'{_DISTRIBUTION_NAME}[{extra}] @ {source}')}"


def _find_source() -> Path | str | None:
    """Return the folder, file or URL that the package was installed from, or None if it is unknown."""
    try:
        written = importlib.metadata.distribution(_DISTRIBUTION_NAME).read_text("direct_url.json")
        direct: dict[str, Any] = json.loads(written or "{}")  # as described by PEP 610
        url = direct.get("url")
        if url:
            return _parse_source(url, direct.get("vcs_info"), direct.get("subdirectory"))
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError, TypeError, KeyError, AttributeError):
        pass  # not installed, or the file isn't valid
    return _PROJECT_ROOT if (_PROJECT_ROOT / "pyproject.toml").is_file() else None


def _parse_source(url: str, vcs_info: dict[str, str] | None, subdirectory: str | None) -> Path | str:
    parts = urlsplit(url)
    if parts.scheme == "file" and vcs_info is None:
        return Path(url2pathname(parts.path))
    user, _, host = parts.netloc.rpartition("@")
    # Remove the password. For https remove the user as well, because it may be a token.
    user = "" if parts.scheme in {"http", "https"} else user.partition(":")[0]
    url = urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host))
    if vcs_info is not None:
        url = f"{vcs_info['vcs']}+{url}@{vcs_info.get('requested_revision') or vcs_info['commit_id']}"
    return f"{url}#subdirectory={subdirectory}" if subdirectory else url
