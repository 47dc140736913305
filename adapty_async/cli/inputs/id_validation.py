"""Validate many IDs at once by the rules of the library."""

from collections.abc import Sequence

from ...bulk.operations import IdType
from ...models import is_uuid_text
from ...resources.profiles import build_delete_request


def find_invalid_ids(ids: Sequence[str], by: IdType) -> dict[int, str]:
    """Return why the library would refuse IDs, by index."""
    if _has_only_valid_ids(ids, by):
        return {}
    return {index: reason for index, id_ in enumerate(ids) if (reason := explain_invalid_id(id_, by))}


def explain_invalid_id(id_: str, by: IdType) -> str:
    """Return why the library would refuse an ID, or an empty string."""
    if _is_plainly_valid(id_, by):
        return ""
    try:
        if by == "profile_id":
            build_delete_request(profile_id=id_)
        else:
            build_delete_request(customer_user_id=id_)
    except ValueError as error:
        return str(error)
    return ""


def _has_only_valid_ids(ids: Sequence[str], by: IdType) -> bool:
    """Check many IDs quickly. False may also mean that a full check is needed."""
    if by == "profile_id":
        return all(map(is_uuid_text, ids))
    text = f",{','.join(ids)},"
    return text.isprintable() and ", " not in text and " ," not in text and ",," not in text


def _is_plainly_valid(id_: str, by: IdType) -> bool:
    """Check quickly. False may also mean that a full check is needed."""
    if by == "profile_id":
        return is_uuid_text(id_)
    return id_.isprintable() and id_ != "" and not (id_.startswith(" ") or id_.endswith(" "))
