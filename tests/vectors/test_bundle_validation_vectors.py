"""The vectors of §2, §3, the tables of §5, §6.1 and §12.2."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from protocol import timestamps
from protocol.bundle import Problem
from protocol.schema import bundle_schema
from protocol.signing import SignatureError, open_signed
from protocol.validation import validate

AREA = "bundle_validation"
SCHEMA = Draft202012Validator(bundle_schema())


def test_validation(validation_case: dict[str, Any]) -> None:
    expected = validation_case["expect"]
    report = validate(
        validation_case["bundle"],
        now=validation_case["at"],
        strict=validation_case.get("strict", False),
    )
    assert (report.bundle is not None) == expected["valid"], report.errors
    for wanted in expected.get("errors", []):
        assert _holds(report.errors, wanted), report.errors
    for wanted in expected.get("warnings", []):
        assert _holds(report.warnings, wanted), report.warnings


def test_schema_refuses_no_valid_bundle(validation_case: dict[str, Any]) -> None:
    case = validation_case
    valid = validate(case["bundle"], now=case["at"]).bundle is not None
    assert SCHEMA.is_valid(case["bundle"]) or not valid


def test_timestamp(timestamp_case: dict[str, Any]) -> None:
    assert timestamps.parse(timestamp_case["text"]) == timestamp_case["expect"]["epoch"]


def test_signature(signature_case: dict[str, Any]) -> None:
    key, text = signature_case["key"].encode(), signature_case["text"].encode()
    expected = signature_case["expect"]["result"]
    if expected == "ok":
        assert open_signed(key, text) == text.partition(b"\n")[2]
        return
    with pytest.raises(SignatureError) as caught:
        open_signed(key, text)
    assert caught.value.fault == expected


def _holds(problems: tuple[Problem, ...], wanted: dict[str, str]) -> bool:
    return any(
        problem.path == wanted["path"] and wanted["contains"].lower() in problem.message.lower()
        for problem in problems
    )
