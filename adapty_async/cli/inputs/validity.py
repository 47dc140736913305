"""Check many IDs at once by the rules of the library."""

from collections.abc import Sequence

from ...bulk.api import By
from ...models import is_uuid_text
from ...resources.profiles import delete_request


def refusals(ids: Sequence[str], by: By) -> dict[int, str]:
    """Return why the library would refuse IDs, by index."""
    if _are_all_sent(ids, by):
        return {}
    return {index: reason for index, id_ in enumerate(ids) if (reason := refusal(id_, by))}


def refusal(id_: str, by: By) -> str:
    """Return why the library would refuse an ID, or an empty string."""
    if _is_sent(id_, by):
        return ""
    try:
        if by == "profile_id":
            delete_request(profile_id=id_)
        else:
            delete_request(customer_user_id=id_)
    except ValueError as error:
        return str(error)
    return ""


def _are_all_sent(ids: Sequence[str], by: By) -> bool:
    """Check many IDs quickly. False may also mean that a full check is needed."""
    if by == "profile_id":
        return all(map(is_uuid_text, ids))
    text = f",{','.join(ids)},"
    return text.isprintable() and ", " not in text and " ," not in text and ",," not in text


def _is_sent(id_: str, by: By) -> bool:
    """Check quickly. False may also mean that a full check is needed."""
    if by == "profile_id":
        return is_uuid_text(id_)
    return id_.isprintable() and id_ != "" and not (id_.startswith(" ") or id_.endswith(" "))
