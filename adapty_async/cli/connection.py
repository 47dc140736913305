"""The client that the environment describes."""

from ..client import AdaptyClient
from .exits import CommandError, ExitStatus


def client_of_environment() -> AdaptyClient:
    """Make a client of the key and address in the environment. Raises CommandError."""
    try:
        return AdaptyClient.from_env()
    except ValueError as error:
        sentence = str(error)
    if sentence.startswith("base_url"):
        raise CommandError(sentence.replace("base_url", "ADAPTY_BASE_URL", 1))
    raise CommandError(sentence, ExitStatus.CREDENTIALS)
