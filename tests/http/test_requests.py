"""Requests and responses: validation, encoding and representation."""

import json
import pickle
import weakref
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from adapty_async import Request, Response
from adapty_async.http.requests import Headers, build_response, build_unchecked_request, check_header_value

SECRET = "anna@example.com"  # noqa: S105 - a made-up id


def repickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


class TestRequest:
    def test_a_body_of_bytes_is_sent_as_it_is(self) -> None:
        assert Request("POST", "/x", body=b"\xff").content == b"\xff"

    def test_no_body_is_not_a_body_of_null(self) -> None:
        assert Request("GET", "/x").content is None

    def test_a_body_of_json_is_written_compactly_as_utf_8(self) -> None:
        assert (
            Request("POST", "/x", body={"name": "Zoë", "n": [1, None]}).content
            == '{"name":"Zoë","n":[1,null]}'.encode()
        )

    @pytest.mark.parametrize("body", [{"x": "\ud800"}, {"x": float("nan")}, {"x": float("inf")}])
    def test_a_body_that_json_cant_carry_is_a_value_error(self, body: Any) -> None:
        with pytest.raises(ValueError, match="JSON"):
            Request("POST", "/x", body=body)

    def test_a_body_that_is_nested_too_deep_is_a_value_error(self) -> None:
        body: list[Any] = []
        for _ in range(100_000):
            body = [body]
        with pytest.raises(ValueError, match="nested too deeply"):
            Request("POST", "/x", body=body)

    def test_a_body_of_no_json_type_is_a_type_error(self) -> None:
        body: Any = {"x": {1, 2}}
        with pytest.raises(TypeError):
            Request("POST", "/x", body=body)

    def test_the_error_of_a_bad_body_leads_nowhere_to_the_body(self) -> None:
        with pytest.raises(ValueError, match="lone surrogate") as caught:
            Request("POST", "/x", body={"x": SECRET + "\ud800"})
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("method", ["get", "", "GET ", "GET\r\n", "G3T"])
    def test_a_method_that_is_none_is_refused(self, method: str) -> None:
        with pytest.raises(ValueError, match="method"):
            Request(method, "/x")

    @pytest.mark.parametrize("path", ["", "x", "https://evil.example/x", "/x?a=1", "/x#a", "/x y", "/x\r\n", "/\x00"])
    def test_a_path_that_is_none_is_refused(self, path: str) -> None:
        with pytest.raises(ValueError, match="path"):
            Request("GET", path)

    @pytest.mark.parametrize("name", ["Authorization", "authorization", "Host", "Content-Length", "Transfer-Encoding"])
    def test_a_header_of_the_clients_own_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="set by the client"):
            Request("GET", "/x", headers={name: "1"})

    @pytest.mark.parametrize("name", ["", "a b", "a:", "é", "a\r\n"])
    def test_a_headers_name_that_is_none_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="token"):
            Request("GET", "/x", headers={name: "1"})

    def test_a_bad_headers_value_is_refused_by_the_headers_name(self) -> None:
        with pytest.raises(ValueError, match="the header x-id contains a control character") as caught:
            Request("GET", "/x", headers={"x-id": f"{SECRET}\n"})
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"method": 1}, "the method must be a str, not int"),
            ({"path": None}, "the path must be a str, not NoneType"),
            ({"query": {"a": True}}, "the query a must be a str or an int, not bool"),
            ({"query": {"a": 1.5}}, "the query a must be a str or an int, not float"),
            ({"query": {1: "a"}}, "a name in the query must be a str, not int"),
            ({"query": "a=1"}, "query must be a mapping, not str"),
            ({"headers": [("a", "b")]}, "headers must be a mapping, not list"),
            ({"headers": {1: "b"}}, "a header's name must be a str, not int"),
            ({"headers": {"a": 1}}, "the header a must be a str, not int"),
        ],
    )
    def test_what_has_the_wrong_type_is_a_type_error_that_says_what_to_give(
        self, arguments: dict[str, Any], words: str
    ) -> None:
        right: dict[str, Any] = {"method": "GET", "path": "/x"}
        with pytest.raises(TypeError, match=words):
            Request(**right | arguments)

    def test_a_query_that_utf_8_cant_carry_is_refused(self) -> None:
        with pytest.raises(ValueError, match="the query a contains a lone surrogate"):
            Request("GET", "/x", query={"a": "\ud800"})

    def test_what_the_caller_does_to_its_mappings_later_changes_no_request(self) -> None:
        query: dict[str, str | int] = {"a": 1}
        headers = {"x-id": "1"}
        request = Request("GET", "/x", query=query, headers=headers)
        query["b"] = 2
        headers["x-id"] = "2\r\n"
        assert (request.query, request.headers) == ({"a": 1}, {"x-id": "1"})

    @pytest.mark.parametrize(
        ("method", "idempotent", "resendable"),
        [
            ("GET", None, True),
            ("PUT", None, True),
            ("PATCH", None, True),
            ("DELETE", None, True),
            ("POST", None, False),
            ("POST", True, True),
            ("GET", False, False),
        ],
    )
    def test_whether_it_may_be_sent_again_goes_by_the_method_unless_said(
        self, method: str, idempotent: bool | None, resendable: bool
    ) -> None:
        assert Request(method, "/x", idempotent=idempotent).is_resendable is resendable

    def test_its_repr_names_its_parts_and_shows_no_value(self) -> None:
        request = Request("POST", "/x", query={"q": SECRET}, headers={"x-id": SECRET}, body={"email": SECRET})
        assert repr(request) == "<Request POST /x; query: q; headers: x-id>"
        assert repr(Request("GET", "/x")) == "<Request GET /x>"

    def test_it_survives_a_pickle(self) -> None:
        request = Request("POST", "/x", query={"a": 1}, headers={"x-id": "1"}, body={"b": 2}, idempotent=True)
        copy = repickled(request)
        assert copy == request
        assert copy.content == b'{"b":2}'


class TestHeaderValues:
    @pytest.mark.parametrize("value", ["0", "u1", "a b", "Zoë", "日本", "🙂", "a\u00a0b", "x" * 10_000])
    def test_what_http_carries_passes(self, value: str) -> None:
        check_header_value("the id", value)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("", "is empty"),
            (" a", "white space"),
            ("a ", "white space"),
            ("a\u00a0", "white space"),
            ("\u3000", "white space"),
            ("a\nb", "control character"),
            ("a\tb", "control character"),
            ("a\x00", "control character"),
            ("a\x7f", "control character"),
            ("a\x85", "control character"),
            ("a\ud800", "lone surrogate"),
        ],
    )
    def test_what_http_would_cut_or_not_carry_is_refused_without_being_shown(self, value: str, words: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            check_header_value("the id", value)
        assert str(caught.value).startswith("the id ")
        assert caught.value.__context__ is None
        if value:
            assert value not in str(caught.value).removeprefix("the id ").replace(" ", "")

    @pytest.mark.parametrize("value", [None, 7, b"u1"])
    def test_what_is_no_text_is_a_type_error(self, value: Any) -> None:
        with pytest.raises(TypeError, match="the id must be a str, not"):
            check_header_value("the id", value)

    @given(st.text())
    def test_what_passes_goes_through_a_header_unaltered(self, value: str) -> None:
        try:
            check_header_value("the id", value)
        except ValueError:
            return
        line = b"id: " + value.encode() + b"\r\n"
        assert line.splitlines() == [line[:-2]]
        assert line.partition(b":")[2].strip().decode() == value


class TestHeaders:
    def test_the_case_of_a_name_doesnt_matter(self) -> None:
        headers = Headers({"Retry-After": "1"})
        assert headers["retry-AFTER"] == "1"
        assert headers.get("retry-after") == "1"
        assert "RETRY-AFTER" in headers
        assert "other" not in headers

    def test_of_a_repeated_field_the_first_value_counts(self) -> None:
        repeated = CIMultiDictProxy(CIMultiDict([("A", "1"), ("a", "2"), ("b", "3")]))
        headers = Headers(repeated)
        assert dict(headers) == {"a": "1", "b": "3"}
        assert len(headers) == 2

    def test_none_are_an_empty_mapping(self) -> None:
        assert dict(Headers()) == {}

    def test_their_repr_names_the_fields_alone(self) -> None:
        assert repr(Headers({"Set-Cookie": SECRET, "Date": "x"})) == "Headers(set-cookie, date)"

    def test_they_survive_a_pickle(self) -> None:
        headers = Headers(CIMultiDictProxy(CIMultiDict({"A": "1"})))
        assert repickled(headers) == headers


class TestResponse:
    def test_its_headers_are_read_whatever_their_case(self) -> None:
        assert Response(200, {"Content-Type": "a"}).headers["content-type"] == "a"
        assert Response(200, Headers({"A": "1"})).headers["a"] == "1"

    def test_its_body_is_read_as_json(self) -> None:
        assert Response(200, body=b'{"a": [1]}').json() == {"a": [1]}

    @pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b"1" * 5000])
    def test_a_body_that_is_no_json_is_a_value_error_that_doesnt_show_it(self, body: bytes) -> None:
        with pytest.raises(ValueError, match="the body of the 200 response isn't JSON") as caught:
            Response(200, body=body).json()
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_every_json_is_read(self, value: object) -> None:
        assert Response(200, body=json.dumps(value).encode()).json() == value

    def test_its_repr_shows_nothing_of_the_body(self) -> None:
        assert repr(Response(200, {"x": SECRET}, SECRET.encode())) == f"<Response 200, {len(SECRET)} bytes>"

    def test_it_survives_a_pickle(self) -> None:
        response = Response(200, {"A": "1"}, b"x")
        assert repickled(response) == response


@pytest.mark.parametrize(
    "made",
    [Request("GET", "/a"), Response(204), build_unchecked_request("GET", "/a", {}), build_response(204, {}, b"")],
)
def test_it_can_be_referred_to_weakly(made: Request | Response) -> None:
    assert weakref.ref(made)() is made


def test_what_is_built_without_a_check_is_as_what_is_built_with_one() -> None:
    assert build_unchecked_request("POST", "/a", {"b": "c"}, {"d": 1}, idempotent=True) == Request(
        "POST", "/a", headers={"b": "c"}, body={"d": 1}, idempotent=True
    )
    assert build_response(200, {"A": "b"}, b"{}") == Response(200, {"A": "b"}, b"{}")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        build_response(200, {}, b"").status = 500  # type: ignore[misc] # that is the test
