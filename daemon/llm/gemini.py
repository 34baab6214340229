"""Requests in Gemini's generate-content and embed-content formats (behaviour §5.6).

Shape after ai.google.dev/api/generate-content; the API takes camel case and snake case.
"""

from daemon.llm.prompt import (
    AUDIO_BYTES_PER_SECOND,
    BYTES_PER_PAGE,
    REMOTE_PAGES,
    REMOTE_SECONDS,
    VIDEO_BYTES_PER_SECOND,
    Prompt,
    items,
    media_units,
    objects,
)

_IMAGE_TOKENS = 258
_PAGE_TOKENS = 258
_AUDIO_TOKENS_PER_SECOND = 32
_VIDEO_TOKENS_PER_SECOND = 263

_CONTENTS = ("contents", "content", "systemInstruction", "system_instruction")


def prompt(body: dict[str, object]) -> Prompt:
    """Collect what a request of this family sends to the model."""
    found = Prompt()
    for single in (body, *objects(body.get("requests"))):
        for name in _CONTENTS:
            if name in single:
                found.known = True
                _contents(found, single[name])
        found.add_json(single.get("tools"))
    for name in ("generationConfig", "generation_config"):
        config = body.get(name)
        if isinstance(config, dict):
            found.add_json(config.get("responseSchema"))
    return found


def _contents(found: Prompt, value: object) -> None:
    for content in value if isinstance(value, list) else (value,):
        if isinstance(content, str):
            found.add_text(content)
        elif isinstance(content, dict):
            parts = content.get("parts", content)
            for part in (parts,) if isinstance(parts, dict) else items(parts):
                _part(found, part)


def _part(found: Prompt, part: object) -> None:
    if not isinstance(part, dict):
        found.add_text(part)
        return
    found.add_text(part.get("text"))
    for name in ("functionCall", "functionResponse", "function_call", "function_response"):
        found.add_json(part.get(name))
    for name in ("executableCode", "codeExecutionResult"):
        found.add_json(part.get(name))
    for name in ("inlineData", "inline_data", "fileData", "file_data"):
        data = part.get(name)
        if isinstance(data, dict):
            found.media_tokens += _media_tokens(data)


def _media_tokens(data: dict[str, object]) -> int:
    kind = data.get("mimeType") or data.get("mime_type")
    inline = data.get("data")
    match kind.partition("/")[0] if isinstance(kind, str) else "":
        case "audio":
            seconds = media_units(inline, AUDIO_BYTES_PER_SECOND, REMOTE_SECONDS)
            return seconds * _AUDIO_TOKENS_PER_SECOND
        case "video":
            seconds = media_units(inline, VIDEO_BYTES_PER_SECOND, REMOTE_SECONDS)
            return seconds * _VIDEO_TOKENS_PER_SECOND
        case "application" | "text":
            return media_units(inline, BYTES_PER_PAGE, REMOTE_PAGES) * _PAGE_TOKENS
        case _:
            return _IMAGE_TOKENS
