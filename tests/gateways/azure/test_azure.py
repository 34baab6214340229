"""The policy of Azure API Management, as far as it can be judged without Azure (behaviour §20).

`RULES` holds what the vendor's policy reference says of each element: its attributes, which of them
are required, which may be expressions, and which elements it may hold.
"""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from daemon.cli.main import main

SECTIONS = ("inbound", "backend", "outbound", "on-error")
POLICIES = {"send-request", "set-variable", "choose", "return-response", "set-header", "base"}

# element: (required attributes, optional ones, those that may be expressions, children in order)
RULES: dict[str, tuple[set[str], set[str], set[str], list[str]]] = {
    "send-request": (
        {"response-variable-name"},
        {"mode", "timeout", "ignore-error"},
        {"mode", "response-variable-name", "timeout"},
        ["set-url", "set-method", "set-header", "set-body", "authentication-certificate", "proxy"],
    ),
    "return-response": (
        set(),
        {"response-variable-name"},
        set(),
        ["set-status", "set-header", "set-body"],
    ),
    "set-status": ({"code", "reason"}, set(), {"code", "reason"}, []),
    "set-header": ({"name"}, {"exists-action"}, {"name", "exists-action"}, ["value"]),
    "set-variable": ({"name", "value"}, set(), {"value"}, []),
    "set-url": (set(), set(), set(), []),
    "set-method": (set(), set(), set(), []),
    "set-body": (set(), {"template", "xsi-nil"}, set(), []),
    "value": (set(), set(), set(), []),
    "choose": (set(), set(), set(), ["when", "otherwise"]),
    "when": ({"condition"}, set(), {"condition"}, sorted(POLICIES - {"base"})),
    "otherwise": (set(), set(), set(), sorted(POLICIES - {"base"})),
    "base": (set(), set(), set(), []),
}
TEXT_MAY_BE_EXPRESSION = {"set-url", "value", "set-body"}
EXISTS_ACTIONS = {"override", "skip", "append", "delete"}

# Members that the reference of the context variable and of the allowed .NET types lists.
MEMBERS = {
    "Variables", "Request", "Method", "OriginalUrl", "Path", "QueryString", "Host", "IpAddress",
    "Headers", "GetValueOrDefault", "ContainsKey", "StatusCode", "Contains",
}  # fmt: skip
WORDS = {"context", "IResponse", "null", "var", "answer", "if", "return", "new", "true", "false"}


def policy(*options: str) -> str:
    result = CliRunner().invoke(main, ["gateway", "azure", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


ON_FAILURE = ["closed", "open", "reads-open"]


@pytest.fixture(name="text", params=ON_FAILURE)
def _text(request: pytest.FixtureRequest) -> str:
    return policy(f"--on-failure={request.param}", "--daemon=https://fairvisor.test")


def expressions(text: str) -> Iterator[str]:
    """Yield every policy expression of a document, without its `@`."""
    for element in ET.fromstring(text).iter():  # noqa: S314 - ours
        for value in (*element.attrib.values(), element.text or ""):
            if value.strip().startswith("@"):
                yield value.strip()[1:]


def test_sections_are_those_of_a_policy(text: str) -> None:
    root = ET.fromstring(text)  # noqa: S314 - ours
    assert root.tag == "policies"
    assert tuple(section.tag for section in root) == SECTIONS
    for section in root:
        assert section[0].tag == "base"
        assert {child.tag for child in section} <= POLICIES


def test_elements_and_attributes_are_the_vendors(text: str) -> None:
    root = ET.fromstring(text)  # noqa: S314 - ours
    for element in root.iter():
        if element.tag in {"policies", *SECTIONS}:
            assert not element.attrib
            continue
        required, optional, may_be_expression, children = RULES[element.tag]
        assert required <= set(element.attrib) <= required | optional, element.tag
        places = [children.index(child.tag) for child in element]
        if element.tag not in {"when", "otherwise"}:
            assert places == sorted(places), f"{element.tag}: children in another order"
        for name, value in element.attrib.items():
            assert not value.startswith("@") or name in may_be_expression, (element.tag, name)
        if (element.text or "").strip().startswith("@"):
            assert element.tag in TEXT_MAY_BE_EXPRESSION
        assert element.attrib.get("exists-action", "override") in EXISTS_ACTIONS


def test_expressions_can_be_csharp(text: str) -> None:
    found = list(expressions(text))
    assert len(found) >= 12
    for each in found:
        assert (each[0], each[-1]) in {("(", ")"), ("{", "}")}, each
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', each)
        stack: list[str] = []
        for char in bare:
            if char in "([{":
                stack.append(char)
            elif char in ")]}":
                assert stack, each
                assert stack.pop() + char in {"()", "[]", "{}"}, each
        assert not stack, each
        assert bare.count('"') % 2 == 0
        # Neither way to upload a policy (xml, rawxml) reads these the same.
        assert not set(bare) & set("<>&"), each
        for member in re.findall(r"\.\s*([A-Za-z_]\w*)", bare):
            assert member in MEMBERS, member
        for word in re.findall(r"(?<![.\w])[A-Za-z_]\w*", bare):
            assert word in WORDS, word
        if each[0] == "{":
            statements = [part.strip() for part in bare[1:-1].split(";")]
            assert statements[-1] == ""
            assert statements[-2].removeprefix("}").strip().startswith("return ")


def test_the_daemon_hears_all_that_it_needs(text: str) -> None:
    (request,) = ET.fromstring(text).iter("send-request")  # noqa: S314 - ours
    assert request.findtext("set-url") == "https://fairvisor.test/v1/decision"
    assert request.findtext("set-method") == "GET"
    assert (request.get("mode"), request.get("ignore-error")) == ("new", "true")
    sent = {each.attrib["name"]: each.findtext("value") for each in request.iter("set-header")}
    assert {"X-Original-Method", "X-Original-URI", "X-Original-Host", "X-Forwarded-For",
            "Authorization", "User-Agent"} <= set(sent)  # fmt: skip
    # Only the context speaks for the gateway's own headers, never what the client sent.
    for name in ("X-Original-Method", "X-Original-URI", "X-Original-Host", "X-Forwarded-For"):
        assert "Headers" not in str(sent[name])


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        (["--timeout=500"], "1"),
        (["--timeout=1000"], "1"),
        (["--timeout=1001"], "2"),
        (["--timeout=500", "--longest-delay=4000"], "5"),
    ],
)
def test_it_waits_whole_seconds_that_cover_delays(options: list[str], seconds: str) -> None:
    (request,) = ET.fromstring(policy(*options)).iter("send-request")  # noqa: S314 - ours
    assert request.get("timeout") == seconds


def test_what_happens_without_a_decision() -> None:
    conditions = {
        way: [
            each.attrib["condition"]
            for each in ET.fromstring(policy(f"--on-failure={way}")).iter("when")  # noqa: S314
        ][1]
        for way in ON_FAILURE
    }
    assert conditions["open"] == "@(false)"
    assert '== "failure"' in conditions["closed"]
    assert "Method" not in conditions["closed"]
    assert (
        '!new[] { "GET", "HEAD", "OPTIONS" }.Contains(context.Request.Method)'
        in (conditions["reads-open"])
    )


def test_refusals_are_returned_as_the_daemon_said_them(text: str) -> None:
    returned = list(ET.fromstring(text).iter("return-response"))  # noqa: S314 - ours
    assert [each.get("response-variable-name") for each in returned] == ["fairvisor", None]
    own = {each.attrib["name"]: each.findtext("value") for each in returned[1].iter("set-header")}
    assert own == {
        "Retry-After": "1",
        "X-Fairvisor-Reason": "service_unavailable",
        "Content-Type": "application/json",
    }
