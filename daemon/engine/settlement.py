"""`POST /v1/settle`: reservation ids and what a settlement says (behaviour §7.5, §11.1).

A reservation's text is base64url of 16 random bytes and the placement hashes of the counters it was
charged on, 4 bytes each: the random part cannot be guessed, the rest says which shards hold it, for
any number of shards. Where a rule learns, 6 bytes more tell the request's model at the end:
whoever settles need not remember what was asked for.
"""

import binascii
from base64 import urlsafe_b64encode
from collections.abc import Iterable

import msgspec
import orjson

from daemon.engine.claims import base64url
from daemon.engine.learned import TAG_BYTES
from daemon.llm.extraction import extract
from daemon.llm.providers import Family
from daemon.llm.usage import of_counts
from protocol.usage import Usage, whole_tokens

ID_BYTES = 16
_HASH_BYTES = 4
_MAX_TEXT = 4096


class SettlementError(ValueError):
    """The request is not a settlement; the message says what is missing."""


class Settlement(msgspec.Struct, frozen=True):
    """A reservation, where its parts may be (placement hashes), and what was used.

    Without usage the whole reservation is given back. `model` is the tag of the request's model,
    empty unless a rule learns from it.
    """

    reservation: bytes
    placements: tuple[int, ...]
    usage: Usage | None
    model: bytes = b""


def reservation_text(reservation: bytes, placements: Iterable[int], model: bytes = b"") -> str:
    """Return the opaque id that a client settles with."""
    places = b"".join(place.to_bytes(_HASH_BYTES, "big") for place in placements)
    return urlsafe_b64encode(reservation + places + model).rstrip(b"=").decode()


def settlement_of(reservation: str, usage: Usage | None) -> Settlement:
    """Return the settlement of a reservation of this daemon; None for `usage` gives it all back."""
    identity, placements, model = _identify(reservation)
    return Settlement(identity, placements, usage, model)


def read_settlement(body: bytes) -> Settlement:
    """Return what a settlement request says.

    Raises:
        SettlementError: not JSON, no reservation, or no usage that can be read.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SettlementError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise SettlementError("the body must be a JSON object")
    reservation, placements, model = _identify(document.get("reservation"))
    return Settlement(reservation, placements, _usage(document), model)


def _identify(text: object) -> tuple[bytes, tuple[int, ...], bytes]:
    if not isinstance(text, str) or not text or len(text) > _MAX_TEXT:
        raise SettlementError("'reservation' must be the text of X-Fairvisor-Reservation")
    try:
        raw = base64url(text.encode())
    except (binascii.Error, ValueError):
        raw = b""
    places, model = raw[ID_BYTES:], b""
    if len(places) % _HASH_BYTES == TAG_BYTES % _HASH_BYTES:
        places, model = places[:-TAG_BYTES], places[-TAG_BYTES:]
    if len(raw) < ID_BYTES or len(places) % _HASH_BYTES:
        # Well-formed, but nobody's: the same answer as for an id that has expired.
        return b"", (), b""
    starts = range(0, len(places), _HASH_BYTES)
    numbers = (int.from_bytes(places[at : at + _HASH_BYTES], "big") for at in starts)
    return raw[:ID_BYTES], tuple(numbers), model


def _usage(document: dict[str, object]) -> Usage:
    usage = document.get("usage")
    if isinstance(usage, dict):
        found = usage_of_counts(usage)
        if found is None:
            raise SettlementError(
                "'usage' needs prompt_tokens and completion_tokens, or total_tokens, >= 0"
            )
        return found
    if "total_tokens" in document:
        found = of_counts(total=document["total_tokens"])
        if found is None:
            raise SettlementError("'total_tokens' must be a number >= 0")
        return found
    response = document.get("response_body")
    if response is None:
        raise SettlementError("one of 'usage', 'total_tokens' or 'response_body' is needed")
    raw = response.encode() if isinstance(response, str) else orjson.dumps(response)
    extracted = extract(_family(response), raw)
    if not isinstance(extracted, Usage):
        raise SettlementError(f"'response_body': {extracted}")
    return extracted


def usage_of_counts(usage: dict[str, object]) -> Usage | None:
    """Return the usage of two counts, or of a total; None if neither is there and valid."""
    prompt = whole_tokens(usage.get("prompt_tokens"))
    completion = whole_tokens(usage.get("completion_tokens"))
    if prompt is not None and completion is not None:
        return of_counts(prompt, completion, usage.get("total_tokens"))
    return of_counts(total=usage.get("total_tokens"))


def _family(response: object) -> Family:
    """Tell the wire format by the fields that only one of them has."""
    element = response[-1] if isinstance(response, list) and response else response
    if not isinstance(element, dict):
        return "openai"
    if "usageMetadata" in element:
        return "gemini"
    return "anthropic" if element.get("type") == "message" else "openai"
