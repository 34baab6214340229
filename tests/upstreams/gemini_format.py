"""Google's generate-content and embed-content APIs."""

import json
from typing import Any

from tests.upstreams.asked import ARGUMENTS, THOUGHTS, WORD, Asked, Source

_PICTURE = "iVBORw0KGgo="
_PICTURE_TOKENS = 10


def _config(asked: Asked) -> dict[str, Any]:
    found = asked.data.get("generationConfig")
    return found if isinstance(found, dict) else {}


def _parts(asked: Asked) -> list[tuple[dict[str, Any], int, int]]:
    """Return the parts of the answer, each with its thought tokens and its other tokens."""
    parts: list[tuple[dict[str, Any], int, int]] = []
    thinking = _config(asked).get("thinkingConfig") or {}
    if thinking.get("includeThoughts") or thinking.get("include_thoughts"):
        parts += [({"text": text, "thought": True}, 1, 0) for text in THOUGHTS]
    for name in asked.tools:
        call = {"name": name, "args": json.loads("".join(ARGUMENTS))}
        part = {"functionCall": call, "thoughtSignature": "c2lnbmVk"}
        parts.append((part, 0, len(ARGUMENTS)))
    if asked.tools:
        return parts
    parts += [({"text": WORD}, 0, 1)] * asked.count
    if "IMAGE" in (_config(asked).get("responseModalities") or []):
        picture = {"inlineData": {"mimeType": "image/png", "data": _PICTURE}}
        parts.append((picture, 0, _PICTURE_TOKENS))
    return parts


def _chunk(
    asked: Asked, parts: list[dict[str, Any]], counts: tuple[int, int], *, last: bool
) -> dict[str, Any]:
    thoughts, visible = counts
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    usage = {"promptTokenCount": asked.prompt, "candidatesTokenCount": visible,
             "totalTokenCount": asked.prompt + visible + thoughts}  # fmt: skip
    # Zeros are left out.
    usage |= {"thoughtsTokenCount": thoughts} if thoughts else {}
    usage |= {"cachedContentTokenCount": asked.cached} if asked.cached else {}
    chunk = {"candidates": [candidate], "modelVersion": "m-001", "responseId": "r1"}
    return chunk if asked.bare else chunk | {"usageMetadata": usage}


def content(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return a whole answer and its bill."""
    found = _parts(asked)
    thoughts = sum(each for _, each, _ in found)
    visible = sum(each for _, _, each in found)
    answer = _chunk(asked, [part for part, _, _ in found], (thoughts, visible), last=True)
    return answer, asked.prompt + thoughts + visible


def content_events(asked: Asked) -> Source:
    """Return a stream, as events or as a JSON array."""
    array = "alt=sse" not in asked.target
    events: Source = []
    thoughts = visible = 0
    found = _parts(asked)
    for n, (part, more_thoughts, more) in enumerate(found, 1):
        thoughts += more_thoughts
        visible += more
        chunk = _chunk(asked, [part], (thoughts, visible), last=n == len(found))
        before, after = (b"[" if n == 1 else b",\r\n", b"") if array else (b"data: ", b"\r\n\r\n")
        events.append((before + json.dumps(chunk).encode() + after, more_thoughts + more))
    return [*events, (b"]", 0)] if array else events


def counted(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return the answer of `:countTokens`, which costs nothing."""
    return {"totalTokens": asked.prompt}, 0


def embeddings(asked: Asked) -> tuple[dict[str, Any], int]:
    """Return the answer of `:batchEmbedContents` and its bill."""
    vectors = [{"values": [0.25, -1.5, 3.0]} for _ in asked.data["requests"]]
    usage = {} if asked.bare else {"usageMetadata": {"promptTokenCount": asked.prompt}}
    return {"embeddings": vectors, **usage}, asked.prompt
