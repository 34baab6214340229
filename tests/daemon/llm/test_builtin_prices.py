from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.builtin_prices import flatten
from protocol.pricing import cost
from protocol.usage import Usage

AT = datetime(2026, 11, 20, 2, tzinfo=UTC)
BUILTIN = flatten(AT)
MODELS = [
    ("gpt-4o", "openai", "openai"),
    ("gpt-4.1-mini", "openai", "openai"),
    ("claude-sonnet-4-5", "anthropic", "anthropic"),
    ("claude-opus-4-1", "anthropic", "anthropic"),
    ("gemini-2.5-pro", "gemini", "google"),
    ("mistral-large-latest", "mistral", "mistral"),
    ("grok-4", "grok", "x-ai"),
]


@given(
    st.sampled_from(MODELS),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 100_000),
    st.integers(0, 100_000),
)
def test_agrees_with_the_source(
    model: tuple[str, str, str], plain: int, cached: int, written: int, out: int
) -> None:
    name, ours, theirs = model
    written = written if theirs == "anthropic" else 0
    prompt = plain + cached + written
    rates = BUILTIN.find(name, ours)
    assert rates is not None
    usage = Usage(prompt, out, prompt + out, cached_input=cached, cache_write=written)
    expected = calc_price(
        TheirUsage(
            input_tokens=prompt,
            cache_read_tokens=cached,
            cache_write_tokens=written,
            output_tokens=out,
        ),
        name,
        provider_id=theirs,
        genai_request_timestamp=AT,
    )
    exact = expected.total_price * 1_000_000
    found = cost(rates, usage)
    assert found is not None
    # Their decimals carry 28 digits: enough to tell the whole micro-dollar but for its very edge.
    assert exact - Decimal("1e-9") <= found < exact + 1


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-sonnet-4-5", None),
        ("mistral-large-latest", "openai"),
        ("models/gemini-2.5-pro", "gemini-compat"),
        ("GPT-4o", None),
    ],
)
def test_a_name_is_found_wherever_it_is_served(model: str, provider: str | None) -> None:
    assert BUILTIN.find(model, provider) is not None


def test_unknown_and_free_models() -> None:
    assert BUILTIN.find("no-such-model", "openai") is None
    assert BUILTIN.find("llama3.2", "ollama") is None


def test_hourly_prices_count_at_their_dearest() -> None:
    noon, night = (flatten(datetime(2026, 11, 20, hour, tzinfo=UTC)) for hour in (12, 20))
    assert noon.find("deepseek-chat", "deepseek") == night.find("deepseek-chat", "deepseek")
