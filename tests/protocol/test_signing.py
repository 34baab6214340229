import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.signing import SignatureError, open_signed, sign

PAYLOAD = b'{"bundle_version": 7, "policies": []}\n'


def fault(key: bytes, text: bytes) -> str:
    with pytest.raises(SignatureError) as caught:
        open_signed(key, text)
    assert str(caught.value).startswith(caught.value.fault)
    return caught.value.fault


def test_the_signature_is_base64_of_hmac_sha256() -> None:
    expected = base64.b64encode(hmac.new(b"key", PAYLOAD, "sha256").digest())
    assert sign(b"key", PAYLOAD) == expected + b"\n" + PAYLOAD


@given(st.binary(), st.binary(min_size=1))
def test_what_is_signed_opens_byte_for_byte(key: bytes, payload: bytes) -> None:
    assert open_signed(key, sign(key, payload)) == payload


@given(st.binary(min_size=1), st.data())
def test_any_changed_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    text = bytearray(sign(b"key", payload))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SignatureError):
        open_signed(b"key", bytes(text))


@pytest.mark.parametrize("text", [b"", b"{}", b"\n", b"\n{}", b"abc=\n"])
def test_without_a_signature_line_or_a_payload_the_format_is_wrong(text: bytes) -> None:
    assert fault(b"key", text) == "signed_bundle_format_error"


@pytest.mark.parametrize(
    "text",
    [
        sign(b"other", PAYLOAD),
        sign(b"key", PAYLOAD) + b" ",
        sign(b"key", PAYLOAD).replace(b"=\n", b"\n"),
        sign(b"key", PAYLOAD).replace(b"=\n", b"=\r\n"),
        b" " + sign(b"key", PAYLOAD),
        b"{\n}",
        b"\xff\xfe\n{}",
    ],
)
def test_anything_but_the_exact_signature_is_invalid(text: bytes) -> None:
    assert fault(b"key", text) == "invalid_signature"


def test_nothing_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match="empty"):
        sign(b"key", b"")
