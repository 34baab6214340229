"""Everything a policy may ask about one request, read at most once (behaviour §4.1)."""

from collections.abc import Callable
from urllib.parse import unquote_plus

from daemon.engine.client_address import client_address
from daemon.engine.sources import Sources
from daemon.llm import providers
from daemon.llm.estimate import prompt_tokens
from daemon.llm.request import LlmRequest, read
from protocol.bundle import MICRO, Estimator
from protocol.request import Request

ReadClaims = Callable[[bytes, float], dict[str, object] | None]
"""An Authorization header and the time in seconds to the claims that count, or None."""

MAX_QUERY_PAIRS = 256
"""Query parameters looked at; a limit key behind more of them counts as missing."""


def decode(raw: bytes) -> str:
    """Return a header value as text: UTF-8, or Latin-1 where it is not (RFC 9110 §5.5)."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


class Context:
    """Lazy, memoised views of one request. `now` is in microseconds since the epoch."""

    __slots__ = (
        "_address",
        "_claims",
        "_llm",
        "_prompts",
        "_query",
        "_read_claims",
        "claim_texts",
        "now",
        "request",
        "sources",
    )

    _address: str | None
    _claims: dict[str, object] | None
    _llm: LlmRequest
    _query: dict[str, str]

    def __init__(
        self, request: Request, sources: Sources, read_claims: ReadClaims, now: int
    ) -> None:
        self.request = request
        self.sources = sources
        self.now = now
        self._read_claims = read_claims
        self._prompts: dict[Estimator, int] | None = None
        self.claim_texts: dict[str, str | None] = {}

    def adopt(self, read: "Context") -> None:
        """Take over what was read of the same request's body before."""
        self._llm = read.llm
        self._prompts = read._prompts  # noqa: SLF001 - one of us

    def header(self, name: bytes) -> str | None:
        """Return a header's first value; empty counts as missing. `name` is canonical."""
        raw = self.request.headers.get(name)
        return decode(raw) if raw else None

    def edge_header(self, name: bytes) -> str | None:
        """Return a header that only a trusted peer may set (§4.2)."""
        return self.header(name) if self.request.trusted else None

    def query(self, name: str) -> str | None:
        """Return a query parameter's first value, percent-decoded; empty counts as missing."""
        try:
            query = self._query
        except AttributeError:
            query = self._query = parse_query(self.request.query)
        return query.get(name) or None

    @property
    def address(self) -> str | None:
        """The client's address (§4.2), None for a Unix-socket peer that names none."""
        try:
            return self._address
        except AttributeError:
            request = self.request
            forwarded = request.headers.get(b"x-forwarded-for")
            self._address = client_address(request.peer, forwarded, self.sources.trusted)
            return self._address

    @property
    def claims(self) -> dict[str, object] | None:
        """The token's claims (§12), None without a token that counts."""
        try:
            return self._claims
        except AttributeError:
            authorization = self.request.headers.get(b"authorization")
            self._claims = (
                self._read_claims(authorization, self.now / MICRO) if authorization else None
            )
            return self._claims

    @property
    def llm(self) -> LlmRequest:
        """The body as an LLM request; a decision request's counts only if it is JSON (§7.4)."""
        try:
            return self._llm
        except AttributeError:
            request = self.request
            self._llm = read(request.body, request.path, json_only=not self.sources.proxies)
            return self._llm

    @property
    def provider(self) -> str | None:
        """The value of `llm:provider` (§4.3)."""
        kind = providers.endpoint(self.request.path)
        return providers.provider_name(kind, self.request.provider, self.sources.llm_format)

    def prompt_tokens(self, estimator: Estimator) -> int:
        """Return the prompt estimate of §5.6 in tokens."""
        if self._prompts is None:
            self._prompts = {}
        known = self._prompts.get(estimator)
        if known is None:
            request = self.request
            hint = request.headers.get(b"x-token-estimate") if request.trusted else None
            family = providers.family_of(providers.endpoint(request.path))
            known = self._prompts[estimator] = prompt_tokens(estimator, self.llm, hint, family)
        return known


def parse_query(query: str) -> dict[str, str]:
    """Return the first value of each query parameter, percent-decoded ("+" is a space)."""
    values: dict[str, str] = {}
    for pair in query.split("&", MAX_QUERY_PAIRS)[:MAX_QUERY_PAIRS]:
        name, _, value = pair.partition("=")
        values.setdefault(unquote_plus(name), unquote_plus(value))
    return values
