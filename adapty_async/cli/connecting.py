"""The client of a command: its key and its server come from the environment."""

from ..client import AdaptyClient
from .exits import CommandError, ExitStatus


def client_from_env() -> AdaptyClient:
    """Make the client. Raises CommandError where there is no key, or no server by that address."""
    try:
        return AdaptyClient.from_env()
    except ValueError as error:
        sentence = str(error)
    if sentence.startswith("base_url"):
        raise CommandError(sentence.replace("base_url", "ADAPTY_BASE_URL", 1))
    raise CommandError(sentence, ExitStatus.CREDENTIALS)
