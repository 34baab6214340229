"""Signed bundle text (§2.6): base64 of HMAC-SHA256(key, payload), a newline, the payload."""

import base64
import hmac
from typing import Literal

SignatureFault = Literal["signed_bundle_format_error", "invalid_signature"]


class SignatureError(Exception):
    """The text is not signed by the key. `fault` is the contract's name of the failure."""

    def __init__(self, fault: SignatureFault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault: SignatureFault = fault


def sign(key: bytes, payload: bytes) -> bytes:
    """Return the signed text of `payload`, which must not be empty."""
    if not payload:
        raise ValueError("an empty payload cannot be signed")
    return _signature(key, payload) + b"\n" + payload


def open_signed(key: bytes, text: bytes) -> bytes:
    """Return the payload of a signed text, byte for byte as it was signed.

    Raises:
        SignatureError: `signed_bundle_format_error` without a newline, a first line or a payload;
            `invalid_signature` if the first line is not the payload's signature.
    """
    first_line, newline, payload = text.partition(b"\n")
    if not newline:
        raise SignatureError(
            "signed_bundle_format_error",
            "expected a signature line and then the bundle, found no line break",
        )
    if not first_line:
        raise SignatureError("signed_bundle_format_error", "the signature line is empty")
    if not payload:
        raise SignatureError("signed_bundle_format_error", "no bundle after the signature line")
    if not hmac.compare_digest(first_line, _signature(key, payload)):
        raise SignatureError(
            "invalid_signature",
            "the first line is not the signature of the bytes below it for the configured key",
        )
    return payload


def _signature(key: bytes, payload: bytes) -> bytes:
    return base64.b64encode(hmac.digest(key, payload, "sha256"))
