"""The requests that stand for policies when there is no requests file."""

import pytest

from daemon.engine.sources import Sources
from daemon.replay import Replay, request_of
from daemon.replay.samples import samples
from protocol.bundle import Bundle, LlmBudget, Policy, Rule, Selector, TokenBucket

BUCKET = TokenBucket(1, 5_000_000)  # type: ignore[arg-type]  # 1 is as good as Fraction(1)
KEYS = [
    "jwt:sub",
    "header:x-key",
    "query:id",
    "ip:address",
    "ip:country",
    "ip:asn",
    "ip:type",
    "ip:tor",
    "ua:bot",
    "ua:bot_category",
    "llm:model",
]


def applied(policy: Policy) -> list[str]:
    """Return the names of the rules that a policy's sample is charged on."""
    sources = Sources(draw_id=lambda: bytes(16))
    bundle = Bundle(1, (policy,))
    replay = Replay(bundle, sources)
    (sample,) = samples(bundle)
    replay.decide(request_of(sample, sources), 1_000_000)
    assert replay.evaluation is not None
    assert replay.evaluation.missing == []
    return [str(check.name) for check in replay.evaluation.checks]


@pytest.mark.parametrize("key", KEYS)
def test_every_limit_key_gets_a_value(key: str) -> None:
    policy = Policy("p", Selector(path_prefix="/v1/"), (Rule("r", (key,), BUCKET),))
    assert applied(policy) == ["r"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("header:x-plan", "pro"),
        ("query:plan", "a b&c"),
        ("jwt:plan", "free"),
        ("ip:tor", "true"),
        ("ua:bot", "false"),
        ("ua:bot_category", "search_engine"),
        ("ua:bot_category", "ai_assistant_user"),
        ("llm:model", "gpt-x"),
    ],
)
def test_a_match_is_met(key: str, text: str) -> None:
    rules = (Rule("r", ("ip:address",), BUCKET, match=((key, text),)),)
    assert applied(Policy("p", Selector(path_exact="/a"), rules)) == ["r"]


def test_of_two_rules_that_exclude_each_other_the_first_applies() -> None:
    rules = (
        Rule("pro", (), BUCKET, match=(("header:plan", "pro"),)),
        Rule("free", (), BUCKET, match=(("header:plan", "free"),)),
    )
    assert applied(Policy("p", Selector(path_exact="/a"), rules)) == ["pro"]


def test_selector_method_and_host_are_met() -> None:
    selector = Selector(
        path_prefix="/v1/", methods=frozenset({"PUT", "PATCH"}), hosts=frozenset({"h.example"})
    )
    assert applied(Policy("p", selector, (Rule("r", (), BUCKET),))) == ["r"]


def test_a_token_rule_gets_a_chat_request() -> None:
    policy = Policy("p", Selector(path_exact="/c"), (Rule("r", (), LlmBudget(10**9, 10**9)),))
    (sample,) = samples(Bundle(1, (policy,)))
    assert sample["method"] == "POST"
    assert sample["body"]["messages"]
    assert applied(policy) == ["r"]
