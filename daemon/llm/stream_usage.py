"""Ask OpenAI-format upstreams to report usage in a stream, unseen by the client (behaviour §11.1).

Asked for usage, OpenAI adds a last chunk with it, which the reader hides, and `"usage":null` to
every other chunk.
"""

import json
import re

_OPENAIS = b',"usage":null'
_FIELD = b'"stream_options":{"include_usage":true}'

# Quotes within JSON strings are escaped, so neither matches inside a text.
_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])|(?<=\{)\s*"usage"\s*:\s*null\s*,\s*')


def without_null_usage(event: bytes) -> bytes:
    """Return an event without its `"usage":null`; unchanged if it is not clear which that is."""
    if event.count(_OPENAIS) == 1 == event.count(b'"usage"'):  # 0.2 µs instead of 4
        return event.replace(_OPENAIS, b"")
    rest, found = _NULL_USAGE.subn(b"", event)
    return rest if found == 1 else event


def ask_for_usage(body: bytes, data: object) -> tuple[bytes, bool]:
    """Return the body to send upstream, and whether the usage chunk must be hidden from the client.

    For chat and completions endpoints of providers that take the option (`Provider.usage_option`).
    `data` is the JSON value of `body`. Only a streaming request whose client did not ask is
    changed. If it has no `stream_options` the field is put in front and every other byte stays.
    """
    if not isinstance(data, dict) or data.get("stream") is not True:
        return body, False
    options = data.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") is True:
        return body, False
    if "stream_options" not in data:
        head, brace, rest = body.partition(b"{")
        return head + brace + _FIELD + b"," + rest, True
    # The standard library keeps integers of any size, which the fast parser does not.
    try:
        fields = json.loads(body)
        kept = options if isinstance(options, dict) else {}
        fields["stream_options"] = {**kept, "include_usage": True}
        return json.dumps(fields, separators=(",", ":")).encode(), True
    except (ValueError, RecursionError):
        return body, False
