"""Requests in Anthropic's Messages format (behaviour §5.6).

Shape after docs.anthropic.com/en/api/messages.
"""

from daemon.llm.prompt import BYTES_PER_PAGE, REMOTE_PAGES, Prompt, media_units, objects

_IMAGE_TOKENS = 1600
_PAGE_TOKENS = 3000


def prompt(body: dict[str, object]) -> Prompt:
    """Collect what a request of this family sends to the model."""
    found = Prompt(known="messages" in body or "system" in body)
    found.add_json(body.get("tools"))
    stack = [body.get("system"), *(item.get("content") for item in objects(body.get("messages")))]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            found.add_text(value)
        elif isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, dict):
            stack.append(_block(found, value))
    return found


def _block(found: Prompt, block: dict[str, object]) -> object:
    """Add one content block; return the content nested in it, if any."""
    match block.get("type"):
        case "image":
            found.media_tokens += _IMAGE_TOKENS
        case "document":
            source = block.get("source")
            if not isinstance(source, dict):
                return None
            if source.get("type") in ("text", "content"):
                found.add_text(source.get("data"))
                return source.get("content")
            pages = media_units(source.get("data"), BYTES_PER_PAGE, REMOTE_PAGES)
            found.media_tokens += pages * _PAGE_TOKENS
        case "tool_use" | "server_tool_use":
            found.add_text(block.get("name"))
            found.add_json(block.get("input"))
        case _:
            found.add_text(block.get("text"))
            found.add_text(block.get("thinking"))
            return block.get("content")
    return None
