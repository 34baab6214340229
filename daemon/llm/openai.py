"""Requests in OpenAI's formats: chat, responses, completions, embeddings (behaviour §5.6).

Shapes after platform.openai.com/docs/api-reference; Azure and compatible providers do the same.
"""

from daemon.llm.prompt import (
    AUDIO_BYTES_PER_SECOND,
    BYTES_PER_PAGE,
    REMOTE_PAGES,
    REMOTE_SECONDS,
    Prompt,
    items,
    media_units,
    objects,
)

_IMAGE_TOKENS = 765
_LOW_IMAGE_TOKENS = 85
_AUDIO_TOKENS_PER_SECOND = 10
_PAGE_TOKENS = 1500

_FIELDS = frozenset({"messages", "input", "prompt", "instructions"})
_ITEM_TEXTS = ("text", "refusal", "arguments", "reasoning_content", "reasoning", "name")
_ITEM_CONTENTS = ("content", "output", "summary")


def prompt(body: dict[str, object]) -> Prompt:
    """Collect what a request of this family sends to the model."""
    found = Prompt(known=not _FIELDS.isdisjoint(body))
    found.add_text(body.get("instructions"))
    found.add_text(body.get("suffix"))
    for name in ("tools", "functions", "response_format"):
        found.add_json(body.get(name))
    text = body.get("text")
    if isinstance(text, dict):
        found.add_json(text.get("format"))
    for name in ("messages", "input", "prompt"):
        _walk(found, body.get(name))
    return found


def _walk(found: Prompt, start: object) -> None:
    """Add texts, token ids and media below `start`, whatever its shape."""
    stack = [start]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            found.add_text(value)
        elif isinstance(value, list):
            # Prompts may come as token ids, which are counted already.
            found.media_tokens += sum(type(item) is int for item in value)
            stack.extend(value)
        elif isinstance(value, dict) and not _media(found, value):
            for name in _ITEM_TEXTS:
                found.add_text(value.get(name))
            stack.extend(value.get(name) for name in _ITEM_CONTENTS)
            _calls(found, value)


def _calls(found: Prompt, message: dict[str, object]) -> None:
    calls = [call.get("function") for call in objects(message.get("tool_calls"))]
    for call in (*calls, message.get("function_call")):
        if isinstance(call, dict):
            found.add_text(call.get("name"))
            found.add_json(call.get("arguments"))


def _media(found: Prompt, part: dict[str, object]) -> bool:
    """Add a content part that is no text; tell whether it was one."""
    match part.get("type"):
        case "image_url" | "input_image":
            image = part.get("image_url")
            detail = image.get("detail") if isinstance(image, dict) else part.get("detail")
            found.media_tokens += _LOW_IMAGE_TOKENS if detail == "low" else _IMAGE_TOKENS
        case "input_audio":
            audio = part.get("input_audio")
            data = audio.get("data") if isinstance(audio, dict) else None
            seconds = media_units(data, AUDIO_BYTES_PER_SECOND, REMOTE_SECONDS)
            found.media_tokens += seconds * _AUDIO_TOKENS_PER_SECOND
        case "file" | "input_file":
            file = part.get("file")
            data = (file if isinstance(file, dict) else part).get("file_data")
            found.media_tokens += media_units(data, BYTES_PER_PAGE, REMOTE_PAGES) * _PAGE_TOKENS
        case _:
            return False
    return True


def content_bytes(messages: object) -> int:
    """Return the UTF-8 bytes of all `content` strings of `messages`, text parts included."""
    total = 0
    for message in objects(messages):
        content = message.get("content")
        if isinstance(content, str):
            total += byte_length(content)
            continue
        for part in items(content):
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str):
                total += byte_length(text)
    return total


def byte_length(text: str) -> int:
    """Return the length of `text` in UTF-8; a lone surrogate counts three bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
