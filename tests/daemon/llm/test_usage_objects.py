from daemon.llm.usage import from_anthropic, from_gemini, from_openai, of_counts
from protocol.usage import Usage


def test_openai_parts_lie_within_the_prompt() -> None:
    found = from_openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 5},
        }
    )
    assert found == Usage(
        100, 50, 150, cached_input=40, audio_input=10, reasoning=20, audio_output=5
    )


def test_openai_responses_and_relatives() -> None:
    found = from_openai(
        {
            "input_tokens": 36,
            "output_tokens": 87,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 6},
        }
    )
    assert found == Usage(36, 87, 123, cached_input=4, reasoning=6)
    deepseek = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 8}
    assert from_openai(deepseek) == Usage(9, 1, 10, cached_input=8)
    assert from_openai({"prompt_tokens": 8, "total_tokens": 8}) == Usage(8, 0, 8)


def test_reasoning_that_stands_beside_the_completion_is_output_too() -> None:
    grok = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }
    assert from_openai(grok) == Usage(32, 103, 135, reasoning=94)


def test_anthropic_parts_lie_beside_the_input() -> None:
    found = from_anthropic(
        {
            "input_tokens": 50,
            "cache_creation_input_tokens": 250,
            "cache_read_input_tokens": 1800,
            "cache_creation": {"ephemeral_1h_input_tokens": 30},
            "output_tokens": 10,
        }
    )
    assert found == Usage(2100, 10, 2110, cached_input=1800, cache_write=250, cache_write_1h=30)
    assert from_anthropic({"output_tokens": 3}) == Usage(0, 3, 3)


def test_gemini_thoughts_are_output() -> None:
    found = from_gemini(
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 60,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 70},
                {"modality": "AUDIO", "tokenCount": 30},
            ],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 15}],
        }
    )
    assert found == Usage(
        100,
        50,
        150,
        cached_input=60,
        cached_audio=10,
        audio_input=30,
        reasoning=30,
        image_output=15,
    )
    assert from_gemini({"totalTokenCount": 5}) == Usage(total=5)


def test_nothing_to_read() -> None:
    odd: list[object] = [None, [], 7, {}, {"prompt_tokens": "7", "input_tokens": -1}]
    for reader in (from_openai, from_anthropic, from_gemini):
        for value in odd:
            assert reader(value) is None


def test_counts_of_a_settlement() -> None:
    assert of_counts(3, 4) == Usage(3, 4, 7)
    assert of_counts(total=9) == Usage(total=9)
    assert of_counts(3, -1, 9) == Usage(3, 6, 9)
    assert of_counts("3", None, -9) is None
