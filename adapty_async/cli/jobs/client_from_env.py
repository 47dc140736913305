"""Create a client from environment variables."""

import os

from ...client import AdaptyClient
from ...http.base_url import DEFAULT_BASE_URL
from ..exit_status import CommandError, ExitStatus
from ..output.command_output import get_output


def read_base_url_from_env() -> str:
    """Return the address in ADAPTY_BASE_URL, or Adapty's. Raises CommandError."""
    try:
        return AdaptyClient("any", base_url=os.environ.get("ADAPTY_BASE_URL") or DEFAULT_BASE_URL).base_url
    except ValueError as error:
        message = str(error)
    raise CommandError(message.replace("base_url", "ADAPTY_BASE_URL", 1))


def format_key_advice(what: str) -> str:
    """Return how to set the API key, by the environment variable in use. `what`: a description of the right key."""
    if os.environ.get("ADAPTY_API_KEY_FILE") and not os.environ.get("ADAPTY_API_KEY"):
        return f"set ADAPTY_API_KEY_FILE to a file that contains {what}"
    return f"set ADAPTY_API_KEY to {what}"


def create_client_from_env(timeout: float = 30.0) -> AdaptyClient:
    """Create a client with the key and address of the environment.

    The screen and the log show failed attempts. Raises CommandError.
    """
    try:
        return AdaptyClient.from_env(timeout=timeout, on_attempt=get_output().record_attempt)
    except ValueError as error:
        message = str(error)
    if message.startswith("base_url"):
        raise CommandError(message.replace("base_url", "ADAPTY_BASE_URL", 1))
    raise CommandError(message, ExitStatus.CREDENTIALS)
