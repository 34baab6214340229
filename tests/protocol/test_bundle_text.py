import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bundle_text import load
from protocol.signing import sign

PLAIN = b'{"bundle_version": 3, "policies": []}\n'
KEY = b"key"


def errors(text: bytes, key: bytes | None = None) -> list[str]:
    report = load(text, now=0, signing_key=key)
    assert report.bundle is None
    assert {problem.path for problem in report.errors} == {"$"}
    return [problem.message for problem in report.errors]


@pytest.mark.parametrize(("text", "key"), [(PLAIN, None), (sign(KEY, PLAIN), KEY)])
def test_the_hash_is_that_of_the_payload(text: bytes, key: bytes | None) -> None:
    report = load(text, now=0, signing_key=key)
    assert report.bundle is not None
    assert report.bundle.version == 3
    assert report.bundle.hash == "sha256:" + hashlib.sha256(PLAIN).hexdigest()


def test_with_a_key_unsigned_text_is_refused() -> None:
    assert errors(PLAIN.strip(), KEY)[0].startswith("signed_bundle_format_error")
    assert errors(b"{\n" + PLAIN[1:], KEY)[0].startswith("invalid_signature")
    assert errors(sign(b"other", PLAIN), KEY)[0].startswith("invalid_signature")


def test_without_a_key_signed_text_is_explained() -> None:
    assert "FAIRVISOR_BUNDLE_SIGNING_KEY" in errors(sign(KEY, PLAIN))[0]


def test_what_is_no_json_is_one_error() -> None:
    assert "line 1" in errors(b"{")[0]
    assert "line 1" in errors(sign(KEY, b"{"), KEY)[0]
    assert "empty" in errors(b"")[0]
    assert "object" in errors(b"[]")[0]


def test_duplicate_keys_are_pointed_out_and_errors_in_strict_mode() -> None:
    text = b'{"bundle_version": 1, "policies": [], "defaults": {"x": [{"a": 1, "a": 2}]}}'
    report = load(text, now=0)
    assert report.bundle is not None
    assert [problem.path for problem in report.warnings] == ["$.defaults.x[0].a"]
    assert "duplicate key" in report.warnings[0].message
    strict = load(text, now=0, strict=True)
    assert strict.bundle is None
    assert [problem.path for problem in strict.errors] == ["$.defaults.x[0].a"]


def test_expiry_is_judged_at_the_given_time() -> None:
    text = b'{"bundle_version":1,"policies":[],"expires_at":"1970-01-01T00:01:00Z"}'
    assert load(text, now=59.9).bundle is not None
    assert load(text, now=60.0).bundle is None


@given(st.binary() | st.text().map(str.encode), st.none() | st.binary(), st.booleans())
def test_no_bytes_raise(text: bytes, key: bytes | None, strict: bool) -> None:  # noqa: FBT001 - drawn
    report = load(text, now=0, signing_key=key, strict=strict)
    assert (report.bundle is None) == bool(report.errors)
