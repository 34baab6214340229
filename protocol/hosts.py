"""Host names as selectors compare them (§3)."""

import re

_PORT = re.compile(r":[0-9]*\Z")
_VALID = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")


def normalise_host(text: str) -> str:
    """Return `text` trimmed, in lower case, without `:port` and without one trailing dot.

    Only ASCII is folded: a letter such as the Kelvin sign, which Unicode lower-cases to "k",
    must not become a name that DNS would not give it.
    """
    trimmed = text.strip(" \t\r\n")
    folded = trimmed.lower() if trimmed.isascii() else trimmed
    return _PORT.sub("", folded).removesuffix(".")


def valid_host(host: str) -> bool:
    """Tell whether a normalised host is one that a selector may name.

    Letters, digits, "." and "-"; a letter or digit at both ends; no "..".
    """
    return ".." not in host and _VALID.fullmatch(host) is not None
