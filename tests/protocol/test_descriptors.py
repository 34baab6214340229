import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.descriptors import Descriptor, parse_key, value_text


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("jwt:org_id", "jwt", "org_id"),
        ("jwt:Org-ID", "jwt", "Org-ID"),
        ("header:X_Api-KEY", "header", "x-api-key"),
        ("query:c_D", "query", "c_D"),
        ("ip:address", "ip", "address"),
        ("ip:tor", "ip", "tor"),
        ("ua:bot_category", "ua", "bot_category"),
        ("llm:endpoint", "llm", "endpoint"),
    ],
)
def test_known_keys(text: str, kind: str, name: str) -> None:
    descriptor = parse_key(text)
    assert descriptor is not None
    assert (descriptor.kind, descriptor.name) == (kind, name)
    assert parse_key(descriptor.text) == descriptor


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":",
            "ip",
            "jwt",
            "jwt:",
            "jwt:a.b",
            "jwt:a b",
            "jwt:é",
            "jwt:a\n",
            " jwt:a",
            "jwt: a",
        ),
        *("header:", "header:a:b", "Header:a", "cookie:x", "ip:city", "ip:Address", "ua:os"),
        *("llm:", "llm:models", "query:a[]", None, True, 3, 1.5, [], ["jwt:a"], {"jwt:a": 1}),
    ],
)
def test_anything_else_is_none(text: object) -> None:
    assert parse_key(text) is None


@given(st.text())
def test_no_text_raises_and_a_key_is_its_own_canonical_form(text: str) -> None:
    descriptor = parse_key(text)
    assert descriptor is None or parse_key(descriptor.text) == descriptor


def test_descriptors_of_equal_headers_are_equal() -> None:
    assert parse_key("header:X-A") == parse_key("header:x_a") == Descriptor("header", "x-a")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        ("", ""),
        (42, "42"),
        (42.0, "42"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (0.1, "0.1"),
        (123456789012345678, "123456789012345678"),
        (1e300, "1e+300"),
        (True, "true"),
        (False, "false"),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
        (2**64, None),
        ([1], None),
        ({}, None),
    ],
)
def test_value_text(value: object, text: str | None) -> None:
    assert value_text(value) == text
