"""The quickstart's provider: what its answers say is what its ledger bills, in every format."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.examples.place import ROOT, Place, wait_for

PROVIDER = ROOT / "examples/quickstart/upstream.py"
ASK: dict[str, Any] = {
    "model": "offline",
    "messages": [{"role": "user", "content": "Tell me about the sea in 30 words."}],
}
GEMINI = json.dumps(
    {
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "contents": [{"role": "user", "parts": [{"text": "Tell me about the sea."}]}],
        "generationConfig": {"maxOutputTokens": 25},
    }
).encode()


@pytest.fixture(name="url")
def _url(place: Place) -> str:
    place.provider()
    return f"http://127.0.0.1:{place.provider_port}"


@pytest.fixture(name="ledger")
def _ledger(place: Place, url: str, connect: Callable[[int], Any]) -> Callable[[], tuple[int, ...]]:
    del url  # started

    def read() -> tuple[int, ...]:
        with connect(place.provider_port) as connection:
            told = json.loads(connection.request("/ledger").body)
        return told["requests"], told["prompt_tokens"], told["completion_tokens"]

    return read


def test_openai(url: str, ledger: Callable[[], tuple[int, ...]]) -> None:
    with openai.OpenAI(base_url=url + "/v1", api_key="sk", max_retries=0) as sdk:
        whole = sdk.chat.completions.create(**ASK)
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (8, 30)
        text = whole.choices[0].message.content
        assert text is not None
        assert len(text.split()) == 30
        events = list(
            sdk.chat.completions.create(
                **ASK, stream=True, max_tokens=10, stream_options={"include_usage": True}
            )
        )
        assert events[-2].choices[0].finish_reason == "length"
        assert events[-1].usage is not None
        assert (events[-1].usage.prompt_tokens, events[-1].usage.completion_tokens) == (8, 10)
        said = "".join(each.choices[0].delta.content or "" for each in events[:-1])
        assert text.startswith(said)
        assert len(said.split()) == 10
        with pytest.raises(openai.NotFoundError, match="nothing is served"):
            sdk.embeddings.create(model="offline", input="x")
    assert ledger() == (2, 16, 40)


def test_anthropic(url: str, ledger: Callable[[], tuple[int, ...]]) -> None:
    with anthropic.Anthropic(base_url=url, api_key="sk", max_retries=0) as sdk:
        whole = sdk.messages.create(**ASK, system="Be kind.", max_tokens=100)
        assert (whole.usage.input_tokens, whole.usage.output_tokens) == (10, 30)
        assert whole.stop_reason == "end_turn"
        with sdk.messages.stream(**ASK, max_tokens=10) as stream:
            assert len("".join(stream.text_stream).split()) == 10
            final = stream.get_final_message()
        assert (final.usage.input_tokens, final.usage.output_tokens) == (8, 10)
        assert final.stop_reason == "max_tokens"
    assert ledger() == (2, 18, 40)


def test_gemini(
    place: Place,
    url: str,
    connect: Callable[[int], Any],
    ledger: Callable[[], tuple[int, ...]],
) -> None:
    del url  # started
    with connect(place.provider_port) as connection:
        model = "/v1beta/models/offline"
        whole = json.loads(connection.request(f"{model}:generateContent", {}, "POST", GEMINI).body)
        assert whole["usageMetadata"]["totalTokenCount"] == 7 + 25
        assert whole["candidates"][0]["finishReason"] == "MAX_TOKENS"
        target = f"{model}:streamGenerateContent?alt=sse"
        connection.ask(target, {"Connection": "close"}, "POST", GEMINI)
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.sock.recv(65_536)
    chunks = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]
    assert chunks[-1]["usageMetadata"] == whole["usageMetadata"]
    texts = [each["candidates"][0]["content"]["parts"][0]["text"] for each in chunks]
    assert "".join(texts) == whole["candidates"][0]["content"]["parts"][0]["text"]
    assert ledger() == (2, 14, 50)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": 3}', b'{"messages": [[["x"]]]}'])
def test_odd_bodies_are_answered(
    place: Place, url: str, connect: Callable[[int], Any], body: bytes
) -> None:
    del url  # started
    with connect(place.provider_port) as connection:
        answer = connection.request("/v1/chat/completions", {}, "POST", body)
        assert answer.status in {200, 400}
        assert connection.request("/ledger").status == 200


def test_in_the_background_it_lives_as_long_as_a_process(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with subprocess.Popen(["sleep", "600"]) as owner:
        subprocess.run(
            [sys.executable, PROVIDER, "--listen", f"unix:{path}", "--background", str(owner.pid)],
            check=True,
            timeout=60,
        )
        assert path.is_socket()
        owner.send_signal(signal.SIGTERM)
    wait_for(lambda: not path.exists(), "its socket gone")


def test_it_says_why_it_cannot_serve() -> None:
    ran = subprocess.run(
        [sys.executable, PROVIDER, "--listen", "unix:/nonexistent/s"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("upstream.py: cannot serve at unix:/nonexistent/s: ")
    assert "Traceback" not in ran.stderr
