"""Call a language model until its budget is used up, with OpenAI's own SDK.

Usage: demo.py URL, where URL is a Fairvisor with the quickstart's policy. The base URL is all that
differs from a program that talks to the provider directly. Retries are off: a refusal is the point.
"""

import sys

from openai import APIError, OpenAI, RateLimitError

MOST_CALLS = 20
QUESTION = "Tell me about the sea in 120 words."


def call(client: OpenAI, number: int) -> None:
    """Ask once, and print what was used and what is left while the call's reservation is held.

    Raises:
        RateLimitError: the budget is used up.
    """
    answered = client.chat.completions.with_raw_response.create(
        model="offline", messages=[{"role": "user", "content": QUESTION}], max_tokens=200
    )
    usage = answered.parse().usage
    left = answered.headers.get("RateLimit-Remaining")
    if usage is not None:
        used = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens used"
        print(f"  call {number}: {used}, RateLimit-Remaining: {left}")


def main(base: str) -> None:
    """Call until a call is refused, then say how."""
    print(f"\nOpenAI(base_url='{base}/openai/v1'), a budget of 600 tokens per minute:\n")
    client = OpenAI(base_url=f"{base}/openai/v1", api_key="sk-demo", max_retries=0, timeout=10)
    for number in range(1, MOST_CALLS + 1):
        try:
            call(client, number)
        except RateLimitError as refusal:
            after = refusal.response.headers.get("Retry-After")
            print(f"  call {number}: openai.RateLimitError: {refusal.message}")
            print(f"          Retry-After: {after}", flush=True)
            return
        except APIError as error:
            sys.exit(f"  call {number}: {type(error).__name__}: {error.message}")
    sys.exit(f"nothing refused in {MOST_CALLS} calls")


if __name__ == "__main__":
    main(sys.argv[1])
