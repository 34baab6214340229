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
- A path ends at "#": upstreams that take a fragment for one drop it (nginx does).
- Path parameters are not interpreted: `/a/..;/b` keeps its segment "..;". Only some upstreams
  drop what follows the ";" (servlet containers do), and folding here would hide the path from the
  policies of the others: a path with parameters has one more spelling instead.
- Bytes that are not UTF-8 become U+FFFD: the result is for comparing, and always encodable.
"""

import re
from urllib.parse import unquote_to_bytes

_NEED_WORK = ("%", "//", "/.", "#")
_PARAMETERS = re.compile(r";[^/]*")


def spellings(path: str) -> tuple[str, ...]:
    """Return what an upstream may take a path for, besides what was sent; no policy misses it."""
    normal = normal_form(path)
    found = [normal]
    if ";" in path:  # dropped before escapes are decoded, as servlet containers do
        found.append(normal_form(_PARAMETERS.sub("", path.partition("#")[0])))
    if ";" in normal:  # dropped afterwards
        segments = _decoded(path.partition("#")[0]).split("/")
        found.append(_resolved([segment.partition(";")[0] for segment in segments]))
    return tuple(each for each in dict.fromkeys(found) if each != path)


def climbs(path: str) -> bool:
    """Say whether a reader of some kind may take a path for one above its root.

    Asked where there is something above it to protect; no such path is needed by anyone, so every
    reading that is known counts: escapes decoded up to twice, backslashes as slashes, parameters
    dropped or not.
    """
    text = path.partition("#")[0]
    for _ in range(3):
        plain = text.replace("\\", "/")
        for form in (plain, _PARAMETERS.sub("", plain)):
            depth = 0
            for segment in form.split("/"):
                depth += -1 if segment == ".." else segment not in ("", ".")
                if depth < 0:
                    return True
        text = _decoded(text)
    return False


def normal_form(path: str) -> str:
    """Return `path` (without its query) decoded once, without dot segments or doubled slashes.

    The result always begins with "/". Never raises.
    """
    # Most paths are in normal form already: 0.2 µs, where one regular expression takes 0.5.
    if path.startswith("/") and path.isascii():
        for sign in _NEED_WORK:
            if sign in path:
                break
        else:
            return path
    return _resolved(_decoded(path.partition("#")[0]).split("/"))


def _resolved(segments: list[str]) -> str:
    kept: list[str] = []
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
