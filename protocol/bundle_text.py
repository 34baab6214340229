"""From the bytes of a bundle file, or of a control plane's answer, to a bundle (§2.5, §2.6)."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from protocol.bundle import Problem
from protocol.json_text import JsonTextError, decode, duplicate_keys
from protocol.signing import SignatureError, open_signed
from protocol.validation import Report, validate
from protocol.validation.report import Findings, child, item
from protocol.validation.wording import show

# Base64 of 32 bytes: no JSON text begins like this.
_SIGNATURE_LINE = re.compile(rb"[A-Za-z0-9+/]{43}=\r?\n")


def load(
    text: bytes, *, now: float, signing_key: bytes | None = None, strict: bool = False
) -> Report:
    """Return the validated bundle of a text, or everything that is wrong with it.

    `now` is the time of loading in epoch seconds. With `signing_key` only text signed by it is
    taken. The bundle's hash is that of the payload bytes, without the signature. Never raises.
    """
    payload = text
    if signing_key is not None:
        try:
            payload = open_signed(signing_key, text)
        except SignatureError as error:
            return _unusable(f"{error}; a signing key is set, so the bundle must be signed by it")
    elif _SIGNATURE_LINE.match(text):
        return _unusable(
            "this bundle is signed, but no signing key is set: set FAIRVISOR_BUNDLE_SIGNING_KEY, "
            "or remove the first line"
        )
    try:
        document = decode(payload)
    except JsonTextError as error:
        return _unusable(str(error), _path(error.steps))
    report = validate(document, now=now, strict=strict)
    return _with_hash(_with_duplicates(report, payload, strict=strict), payload)


def _unusable(message: str, path: str = "$") -> Report:
    return Report(None, (Problem(path, message),))


def _path(steps: Sequence[str | int]) -> str:
    path = "$"
    for step in steps:
        path = item(path, step) if isinstance(step, int) else child(path, step)
    return path


def _with_duplicates(report: Report, payload: bytes, *, strict: bool) -> Report:
    findings = Findings(strict, list(report.errors), list(report.warnings))
    for steps, key in duplicate_keys(payload):
        findings.slip(
            child(_path(steps), key),
            f"duplicate key {show(key)}: only its last value counts; remove one",
        )
    return findings.report(report.bundle)


def _with_hash(report: Report, payload: bytes) -> Report:
    if report.bundle is None:
        return report
    digest = hashlib.sha256(payload).hexdigest()
    return replace(report, bundle=replace(report.bundle, hash=f"sha256:{digest}"))
