"""The client that the environment describes."""

import os

from ..base_url import DEFAULT_BASE_URL
from ..client import AdaptyClient
from .exits import CommandError, ExitStatus
from .output import current


def address_of_environment() -> str:
    """Give the address in the environment, or Adapty's. Raises CommandError."""
    try:
        return AdaptyClient("any", base_url=os.environ.get("ADAPTY_BASE_URL") or DEFAULT_BASE_URL).base_url
    except ValueError as error:
        sentence = str(error)
    raise CommandError(sentence.replace("base_url", "ADAPTY_BASE_URL", 1))


def client_of_environment(timeout: float = 30.0) -> AdaptyClient:
    """Make a client of the key and address in the environment; screen and log tell what fails. Raises CommandError."""
    try:
        return AdaptyClient.from_env(timeout=timeout, on_attempt=current().note)
    except ValueError as error:
        sentence = str(error)
    if sentence.startswith("base_url"):
        raise CommandError(sentence.replace("base_url", "ADAPTY_BASE_URL", 1))
    raise CommandError(sentence, ExitStatus.CREDENTIALS)
