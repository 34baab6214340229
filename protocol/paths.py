"""The normal form of a request path (§3), so that no spelling dodges a policy.

Rules
- Percent escapes are decoded once, as bytes: `%2f` becomes a separator and `%2e%2e` a dot
  segment, as they do in upstreams that decode before they resolve; `%252e` becomes the text
  `%2e` and stays so. An invalid escape (`%zz`, a `%` at the end) stays as it is.
- Slashes are folded before ".." takes its parent away, as file systems, nginx and Go do:
  `/a//../b` is `/b`.
- "." and ".." as the last segment leave a slash behind (RFC 3986 §5.2.4): `/a/b/..` is `/a/`.
  A trailing slash is otherwise kept; `/a` and `/a/` are different paths.
- ".." at the root stays at the root.
- Path parameters are not interpreted: `/a/..;/b` keeps its segment "..;". Only some upstreams
  drop what follows the ";", and folding here would hide the path from the policies of the others.
- Bytes that are not UTF-8 become U+FFFD: the result is for comparing, and always encodable.
"""

import re
from urllib.parse import unquote_to_bytes

_NEEDS_WORK = re.compile(r"%|//|/\.")


def normal_form(path: str) -> str:
    """Return `path` (without its query) decoded once, without dot segments or doubled slashes.

    The result always begins with "/". Never raises.
    """
    # Most paths are in normal form already; one search is all that they should cost.
    if path.startswith("/") and path.isascii() and not _NEEDS_WORK.search(path):
        return path
    kept: list[str] = []
    segments = _decoded(path).split("/")
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    closed = kept and segments[-1] in ("", ".", "..")
    return "/" + "/".join(kept) + ("/" if closed else "")


def _decoded(path: str) -> str:
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        raw = path.encode("utf-8", "surrogatepass")
    return unquote_to_bytes(raw).decode("utf-8", "replace")
