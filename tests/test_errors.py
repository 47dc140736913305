"""The error tree, and the error for each response."""

import copy
import html
import inspect
import json
import pickle
import time
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapty_async import errors
from adapty_async.errors import (
    AdaptyAPIError,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    AuthenticationError,
    BadRequestError,
    BulkFailedError,
    ConflictError,
    FieldErrors,
    InvalidResponseError,
    LocalRateLimitError,
    NotFoundError,
    PermissionDeniedError,
    ProfileNotFoundError,
    RateLimitError,
    ServerError,
)
from adapty_async.http.error_mapping import build_api_error, parse_retry_after
from adapty_async.http.requests import Headers, Request, Response

KEY = "secret_live_abc.DEF123"
ID = "anna@example.com"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DELETE = Request("DELETE", "/profile/", headers={"adapty-customer-user-id": ID})

CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, AdaptyError)]


def repickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


def now() -> float:
    return NOW.timestamp()


def documented(code: str | None = "validation_error", *entries: Any, status: int = 400) -> Response:
    """Return a response in the documented format."""
    return Response(status, body=json.dumps({"errors": entries, "error_code": code, "status_code": status}).encode())


class TestTheTree:
    def test_every_error_is_an_adapty_error_and_the_builtin_it_means(self) -> None:
        assert issubclass(AdaptyConnectionError, ConnectionError)
        assert issubclass(AdaptyTimeoutError, TimeoutError)
        assert issubclass(ProfileNotFoundError, NotFoundError)
        for found in (NotFoundError, BadRequestError, RateLimitError, ServerError, ConflictError):
            assert issubclass(found, AdaptyAPIError)
        for other in (InvalidResponseError, LocalRateLimitError):
            assert not issubclass(other, AdaptyAPIError)

    def test_the_tree_at_the_top_of_the_module_names_every_class(self) -> None:
        assert errors.__doc__ is not None
        assert [found.__name__ for found in CLASSES if found.__name__ not in errors.__doc__] == ["_NoResponseError"]

    @pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
    def test_it_can_be_made_of_nothing_and_of_a_message(self, kind: type[AdaptyError]) -> None:
        assert str(kind()) == ""
        assert str(kind("words")) == "words"
        assert "words" in repr(kind("words"))

    def test_without_a_single_word_it_can_still_be_shown(self) -> None:
        error = AdaptyError("words")
        error.args = ()
        assert str(error) == ""

    @pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
    def test_unsaid_it_is_of_one_attempt_executed_only_if_that_was_sent(self, kind: type[AdaptyError]) -> None:
        error = kind()
        assert error.attempts == (0 if kind is LocalRateLimitError else 1)
        assert error.maybe_executed is getattr(error, "sent", False)
        assert getattr(error, "status", 0) == 0

    @pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("duplicate", [repickled, copy.copy, copy.deepcopy])
    def test_it_survives_pickle_and_copy_with_all_it_says(self, kind: type[AdaptyError], duplicate: Any) -> None:
        said: dict[str, Any] = {"attempts": 3, "maybe_executed": True}
        if issubclass(kind, AdaptyConnectionError | AdaptyTimeoutError):
            said["sent"] = False
        if issubclass(kind, BulkFailedError):
            said["report"] = {"deleted": 1}
        if issubclass(kind, LocalRateLimitError):
            said["retry_after"] = 2.5
        if issubclass(kind, AdaptyAPIError):
            said |= {
                "status": 418,
                "code": "teapot",
                "errors": (FieldErrors("email", ("is short", "is stout")),),
                "request_id": "r-1",
                "retry_after": 2.5,
            }
        error = kind("words", **said)
        error.add_note("seen by the caller")
        after = duplicate(error)
        assert type(after) is kind
        assert str(after) == "words"
        assert after.args == error.args
        assert {name: getattr(after, name) for name in said} == said
        assert after.__notes__ == ["seen by the caller"]

    @pytest.mark.parametrize("kind", [AdaptyConnectionError, AdaptyTimeoutError])
    @pytest.mark.parametrize("sent", [True, False])
    def test_what_was_sent_and_not_answered_may_have_been_executed(
        self, kind: type[AdaptyConnectionError | AdaptyTimeoutError], sent: bool
    ) -> None:
        assert kind("words", sent=sent).maybe_executed is sent
        assert kind("words", sent=False, maybe_executed=True).maybe_executed is True


class TestTheClassOfAnAnswer:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (301, AdaptyAPIError),
            (304, AdaptyAPIError),
            (400, BadRequestError),
            (401, AuthenticationError),
            (402, AdaptyAPIError),
            (403, PermissionDeniedError),
            (404, NotFoundError),
            (405, AdaptyAPIError),
            (408, AdaptyAPIError),
            (409, ConflictError),
            (422, BadRequestError),
            (429, RateLimitError),
            (500, ServerError),
            (503, ServerError),
            (599, ServerError),
        ],
    )
    def test_it_goes_by_the_status_where_there_is_no_code(self, status: int, kind: type[AdaptyAPIError]) -> None:
        error = build_api_error(Response(status))
        assert type(error) is kind
        assert (error.status, error.code) == (status, None)

    @pytest.mark.parametrize(
        ("code", "status", "kind"),
        [
            ("profile_does_not_exist", 404, ProfileNotFoundError),
            ("profile_does_not_exist", 400, ProfileNotFoundError),
            ("profile_not_found", 404, ProfileNotFoundError),
            ("paywall_does_not_exist", 404, NotFoundError),
            ("not_authenticated", 401, AuthenticationError),
            ("unauthorized", 403, AuthenticationError),
            ("rate_limited", 403, RateLimitError),
            ("feature_not_enabled", 400, PermissionDeniedError),
            ("validation_error", 409, BadRequestError),
            ("of_tomorrow", 404, NotFoundError),
            ("of_tomorrow", 500, ServerError),
        ],
    )
    def test_it_goes_by_the_code_before_the_status(self, code: str, status: int, kind: type[AdaptyAPIError]) -> None:
        error = build_api_error(documented(code, status=status))
        assert type(error) is kind
        assert (error.status, error.code) == (status, code)

    @pytest.mark.parametrize("customer_user_id", ["profile", "exist", "profile_does_not_exist"])
    def test_an_id_that_stands_in_a_code_changes_no_class(self, customer_user_id: str) -> None:
        request = Request("GET", "/x", headers={"adapty-customer-user-id": customer_user_id})
        error = build_api_error(documented("profile_does_not_exist", status=400), request)
        assert type(error) is ProfileNotFoundError
        assert error.code == "profile_does_not_exist"

    @pytest.mark.parametrize(
        ("status", "headers", "maybe"),
        [
            (400, {}, False),
            (404, {}, False),
            (408, {}, True),
            (408, {"retry-after": "1"}, True),
            (429, {}, False),
            (500, {}, True),
            (502, {}, True),
            (503, {}, True),
            (503, {"retry-after": "1"}, False),
            (503, {"retry-after": "soon"}, True),
            (504, {}, True),
        ],
    )
    def test_it_says_whether_the_call_may_have_been_executed(
        self, status: int, headers: dict[str, str], maybe: bool
    ) -> None:
        assert build_api_error(Response(status, headers)).maybe_executed is maybe


class TestTheBodyOfAnAnswer:
    def test_the_documented_form_is_read(self) -> None:
        error = build_api_error(
            documented(
                "validation_error", {"source": "email", "errors": ["Bad.", "Long."]}, {"source": "x", "errors": []}
            )
        )
        assert error.code == "validation_error"
        assert error.errors == (FieldErrors("email", ("Bad.", "Long.")), FieldErrors("x", ()))

    @pytest.mark.parametrize(
        ("found", "read"),
        [
            (["Bad."], (FieldErrors(None, ("Bad.",)),)),
            ("Bad.", (FieldErrors(None, ("Bad.",)),)),
            ([{"source": None, "errors": ["Bad."]}], (FieldErrors(None, ("Bad.",)),)),
            ([{"source": "email", "errors": "Bad."}], (FieldErrors("email", ("Bad.",)),)),
            (
                [{"status": "400", "detail": "Bad.", "source": {"pointer": "/data/email"}}],
                (FieldErrors("/data/email", ("Bad.",)),),
            ),
            ([{"detail": "Bad.", "source": {}}], (FieldErrors(None, ("Bad.",)),)),
            ([{"source": 7, "errors": [1, None, "Bad.", ["no"]]}], (FieldErrors(None, ("Bad.",)),)),
            ([{}, 1, None, [], True, {"errors": 1}], ()),
            ({"source": "email", "errors": ["Bad."]}, (FieldErrors("email", ("Bad.",)),)),
            ({}, ()),
            (None, ()),
            (1, ()),
        ],
    )
    def test_other_forms_are_read_for_what_they_hold(self, found: object, read: tuple[FieldErrors, ...]) -> None:
        error = build_api_error(Response(400, body=json.dumps({"errors": found, "error_code": "x"}).encode()))
        assert error.errors == read
        assert error.code == "x"

    @pytest.mark.parametrize("code", [None, 7, ["x"], {}, "", "\n\t"])
    def test_a_code_that_is_none_is_none(self, code: object) -> None:
        assert build_api_error(Response(400, body=json.dumps({"error_code": code}).encode())).code is None

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html><body>502 Bad Gateway</body></html>",
            b"null",
            b"[]",
            b'"text"',
            b"17",
            b"\xff\xfe\x00",
            b'{"errors": ',
            b'\xef\xbb\xbf{"errors": []}',
            b"[" * 200_000,
            b'{"error_code": "' + b"x" * 60_000 + b'"}',
        ],
    )
    def test_every_body_is_survived(self, body: bytes) -> None:
        error = build_api_error(Response(502, body=body), DELETE, secrets=[KEY])
        assert type(error) is ServerError
        assert len(str(error)) < 500

    @given(
        st.binary()
        | st.recursive(
            st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["errors", "error_code", "source"]),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["errors", "error_code", "source", "detail", "pointer"]), inner)
            ),
        ).map(lambda value: json.dumps(value).encode()),
        st.integers(300, 599),
    )
    def test_any_body_whatever_is_survived(self, body: bytes, status: int) -> None:
        error = build_api_error(Response(status, body=body), DELETE, secrets=[KEY])
        assert error.status == status
        assert str(error).isprintable()
        assert repickled(error).errors == error.errors

    def test_one_is_read_up_to_the_largest(self) -> None:
        body = b'{"error_code": "x"}'.ljust(64 * 1024)
        assert build_api_error(Response(400, body=body)).code == "x"
        assert build_api_error(Response(400, body=body + b" ")).code is None

    def test_one_that_is_too_large_for_an_error_is_not_read(self) -> None:
        large = documented("validation_error", *["x" * 1000] * 66)
        error = build_api_error(large)
        assert (error.code, error.errors, type(error)) == (None, (), BadRequestError)

    def test_of_a_flood_of_errors_some_are_kept(self) -> None:
        error = build_api_error(
            documented("x", *[{"source": f"f{number}", "errors": ["x"] * 101} for number in range(101)])
        )
        assert len(error.errors) == 100
        assert {len(found.errors) for found in error.errors} == {100}
        assert len(str(error)) < 1200


class TestTheWords:
    def test_they_name_method_path_status_code_fields_and_request_id(self) -> None:
        response = Response(
            400,
            {"Request-Id": "r-17"},
            documented(
                "validation_error", {"source": "email", "errors": ["x"]}, {"source": "email", "errors": ["y"]}
            ).body,
        )
        assert str(build_api_error(response, DELETE)) == (
            "DELETE /profile/: 400 validation_error; fields: email; request ID: r-17"
        )

    def test_they_name_ten_fields_at_most(self) -> None:
        error = build_api_error(documented(None, *[{"source": f"f{number}"} for number in range(11)]))
        assert str(error) == "400; fields: f0, f1, f2, f3, f4, f5, f6, f7, f8, f9"

    def test_a_name_of_the_servers_is_cut(self) -> None:
        assert build_api_error(documented("x" * 101)).code == "x" * 100

    def test_they_are_short_where_nothing_is_known(self) -> None:
        assert str(build_api_error(Response(500))) == "500"

    def test_they_hold_none_of_the_servers_texts(self) -> None:
        error = build_api_error(documented("x", {"source": "email", "errors": ["Bad: bob@example.com"]}), DELETE)
        assert "bob" not in str(error)
        assert "bob" not in repr(error)

    def test_a_line_break_of_the_servers_doesnt_forge_a_line_of_a_log(self) -> None:
        response = Response(400, {"request-id": "a"}, documented("x\nINFO all is well", {"source": "a\r\nb"}).body)
        assert str(build_api_error(response)) == "400 xINFO all is well; fields: ab; request ID: a"

    def test_the_request_id_is_kept(self) -> None:
        assert build_api_error(Response(500, {"request-id": "r-1"})).request_id == "r-1"
        assert build_api_error(Response(500)).request_id is None


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "for a URL": urllib.parse.quote,
    "for a path": lambda text: urllib.parse.quote(text, safe="@&"),
    "for a form": urllib.parse.quote_plus,
    "for HTML": html.escape,
    "for XML": lambda text: text.replace("&", "&amp;"),
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON of UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "by Python": lambda text: text.encode("ascii", "backslashreplace").decode(),
    "read as Latin-1": lambda text: text.encode().decode("latin-1"),
}


class TestScrubbing:
    @pytest.mark.parametrize("spelling", SPELLINGS)
    @pytest.mark.parametrize("secret", [KEY, ID, "Zoë Ann", "a&b", "日本", 'say "x"', "C:\\users"])
    def test_a_secret_that_the_server_writes_back_is_gone_however_it_is_spelled(
        self, secret: str, spelling: str
    ) -> None:
        echo = SPELLINGS[spelling](secret)
        body = {
            "errors": [f"No profile {echo}.", {"source": f"in {echo}", "errors": [echo], "detail": echo}],
            "error_code": f"no {echo}",
        }
        response = Response(404, {"Request-Id": f"for {echo}"}, json.dumps(body).encode())
        error = build_api_error(response, Request("GET", "/x", headers={"x-id": secret}))
        shown = f"{error} {error!r} {error.errors} {error.code} {error.request_id}"
        assert echo not in shown
        assert error.errors[0] == FieldErrors(None, ("No profile ***.",))

    @pytest.mark.parametrize("between", ["\n", "\x7f", "\u200b", "\ud800"])
    def test_an_id_that_the_server_breaks_isnt_put_together_again(self, between: str) -> None:
        broken = f"{ID[:3]}{between}{ID[3:]}"
        response = Response(400, {"request-id": broken}, documented(broken, {"source": broken}).body)
        error = build_api_error(response, DELETE)
        assert str(error) == "DELETE /profile/: 400 ***; fields: ***; request ID: ***"
        assert (error.code, error.errors[0].source, error.request_id) == ("***", "***", "***")

    def test_the_key_is_gone_too(self) -> None:
        error = build_api_error(documented("x", f"Bad key {KEY}"), secrets=[f"Api-Key {KEY}", KEY])
        assert error.errors == (FieldErrors(None, ("Bad key ***",)),)

    @pytest.mark.parametrize("short", ["1", "0", "me", "x-y"])
    def test_a_short_id_is_gone_where_it_stands_alone(self, short: str) -> None:
        request = Request("GET", "/x", headers={"x-id": short})
        error = build_api_error(documented("x", f"No {short}!", f"number1{short}mexico0"), request)
        assert error.errors[0].errors == ("No ***!",)
        assert error.errors[1].errors == (f"number1{short}mexico0",)

    @pytest.mark.parametrize("short", ["anna", "a-na", "日本日本"])
    def test_an_id_of_four_letters_is_gone_also_within_a_word(self, short: str) -> None:
        request = Request("GET", "/x", headers={"x-id": short})
        assert build_api_error(documented("x", f"No x{short}y!"), request).errors[0].errors == ("No x***y!",)

    @pytest.mark.parametrize("secrets", [["anna", ID], ["anna", ID.upper()], ["ANNA", ID], [ID, "anna"]])
    def test_of_two_secrets_that_begin_alike_the_whole_longer_one_is_gone(self, secrets: list[str]) -> None:
        error = build_api_error(documented("x", f"No {ID}, no anna."), secrets=secrets)
        assert error.errors[0].errors == ("No ***, no ***.",)

    @given(st.text(min_size=4).filter(lambda text: text.strip() == text))
    def test_no_id_whatever_is_shown(self, customer_user_id: str) -> None:
        try:
            request = Request("GET", "/x", headers={"x-id": customer_user_id})
        except ValueError:
            return
        error = build_api_error(documented("x", f"[{customer_user_id}]"), request)
        assert error.errors == (FieldErrors(None, ("[***]",)),)

    def test_without_secrets_nothing_is_taken_away(self) -> None:
        assert build_api_error(documented("x", "Bad.")).errors == (FieldErrors(None, ("Bad.",)),)


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the time zone of this process to one that no server uses."""
    monkeypatch.setenv("TZ", "XYZ-9:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("1", 1.0),
            ("0.25", 0.25),
            (" 30 ", 30.0),
            ("86400", 86400.0),
            ("86401", None),
            ("0", None),
            ("0.0", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("1_000", None),
            ("٣", None),
            ("0x10", None),
            ("nan", None),
            ("inf", None),
            ("Infinity", None),
            ("9" * 16, None),
            ("9" * 10_000, None),
            ("", None),
            ("soon", None),
            ("1 second", None),
            ("1, 2", None),
        ],
    )
    def test_seconds_are_read_and_odd_values_ignored(self, text: str, seconds: float | None) -> None:
        assert parse_retry_after(Headers({"Retry-After": text}), now) == seconds
        assert build_api_error(Response(429, {"Retry-After": text}), now=now).retry_after == seconds

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
            (format_datetime(NOW + timedelta(seconds=90)), 90.0),
            ("Fri Jan  2 03:05:35 2026", 90.0),
            ("Fri, 02 Jan 2026 03:05:35 -0000", 90.0),
            ("Fri, 02 Jan 2026 05:05:35 +0200", 90.0),
            ("Friday, 02-Jan-26 03:05:35 GMT", 90.0),
            ("2 Jan 2026 03:06", 115.0),
            (f"Fri, 02 Jan 2026 03:05:35 GMT ({'x' * 32})", 90.0),
            (f"Fri, 02 Jan 2026 03:05:35 GMT ({'x' * 33})", None),
            (format_datetime(NOW, usegmt=True), None),
            (format_datetime(NOW - timedelta(days=1), usegmt=True), None),
            (format_datetime(NOW + timedelta(days=2), usegmt=True), None),
            ("Fri, 99 Jan 2026 03:05:35 GMT", None),
            ("Fri, 02 Jan 9999999999 03:05:35 GMT", None),
            ("Wed, 01 Jan 0001 00:00:00 +2359", None),
            ("Fri, 02 Jan 2026 03:05:35 +999999", None),
        ],
    )
    def test_an_http_date_is_read_as_seconds_from_now(
        self, text: str, seconds: float | None, far_from_utc: None
    ) -> None:
        assert parse_retry_after({"retry-after": text}, now) == seconds
        assert build_api_error(Response(429, {"Retry-After": text}), now=now).retry_after == seconds

    def test_an_http_date_counts_from_the_servers_own_clock_where_it_shows_it(self) -> None:
        late = NOW + timedelta(hours=1)
        headers = {
            "date": format_datetime(late, usegmt=True),
            "retry-after": format_datetime(late + timedelta(seconds=7), usegmt=True),
        }
        assert parse_retry_after(headers, now) == 7.0

    def test_a_clock_of_the_servers_that_makes_no_sense_is_not_counted_from(self) -> None:
        headers = {"date": "today", "retry-after": format_datetime(NOW + timedelta(seconds=7), usegmt=True)}
        assert parse_retry_after(headers, now) == 7.0

    def test_without_the_header_there_is_none(self) -> None:
        assert parse_retry_after({}, now) is None

    @given(st.text(max_size=70) | st.from_regex(r"[A-Z][a-z]{2}, \d+ Jan \d+ \d+:\d+:\d+ .{0,8}", fullmatch=True))
    def test_no_text_whatever_is_an_error(self, text: str) -> None:
        seconds = parse_retry_after({"retry-after": text}, now)
        assert seconds is None or 0 < seconds <= 24 * 3600
