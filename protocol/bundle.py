"""The policy bundle as typed, validated values (behaviour §2, §3, §5).

`protocol.validation` turns JSON into these; everything behind it may trust them. Amounts are
exact: a rate is a `Fraction`, and every cost, budget or token count is an integer number of
*micro-units* (1 unit = 1,000,000 micro-units; for money, micro-dollars).
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

MICRO = 1_000_000
"""Micro-units per unit of cost."""

Mode = Literal["enforce", "shadow"]
OnMissing = Literal["skip", "reject"]
OnError = Literal["allow", "reject", "local"]
UnknownModel = Literal["reject", "default_cost"]
Period = Literal["1m", "5m", "1h", "1d", "7d", "1mo"]
StageAction = Literal["warn", "throttle", "reject"]
LoopAction = Literal["reject", "throttle", "warn"]
Estimator = Literal["simple_word", "header_hint", "tokenizer"]
Reservation = Literal["worst_case", "learned"]
CostKind = Literal["fixed", "header", "query", "llm:usd", "llm:tokens"]
JwtAlgorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]


@dataclass(frozen=True, slots=True)
class Selector:
    """Which requests a policy sees (§3). `path_prefix` ends in "/"; hosts are normalised."""

    path_exact: str | None = None
    path_prefix: str | None = None
    methods: frozenset[str] | None = None
    hosts: frozenset[str] | None = None

    @property
    def label(self) -> str:
        """The selector as a metric label: never a raw request path."""
        return self.path_exact or self.path_prefix or "none"


@dataclass(frozen=True, slots=True)
class CostSource:
    """Where a request's cost comes from (§5.5.1). `name` is set for header and query."""

    kind: CostKind = "fixed"
    name: str = ""
    fixed_cost: int = MICRO
    default_cost: int = MICRO


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """§5.5.2. `rate` in tokens per second, `burst` in micro-tokens."""

    rate: Fraction
    burst: int
    cost: CostSource = field(default_factory=CostSource)


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """§5.5.2. `limit` in micro-units, `window_seconds` in seconds."""

    limit: int
    window_seconds: int
    cost: CostSource = field(default_factory=CostSource)


@dataclass(frozen=True, slots=True)
class Stage:
    """One staged action of a budget (§5.5.3). `threshold` is a percentage of the budget."""

    threshold: Fraction
    action: StageAction
    delay_ms: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class CostBudget:
    """§5.5.3. `budget` in micro-units; `stages` sorted by threshold, a reject at 100 among them."""

    budget: int
    period: Period
    stages: tuple[Stage, ...]
    timezone: str = "UTC"
    cost: CostSource = field(default_factory=CostSource)
    default_max_completion: int = 1000
    estimator: Estimator = "simple_word"
    reservation: Reservation = "worst_case"


@dataclass(frozen=True, slots=True)
class Streaming:
    """Mid-stream cut-off (§11.3)."""

    enabled: bool = True
    enforce_mid_stream: bool = True
    include_partial_usage: bool = True
    buffer_tokens: int = 100
    on_limit_exceeded: Literal["graceful_close", "error_chunk"] = "graceful_close"


@dataclass(frozen=True, slots=True)
class LlmBudget:
    """§5.6. The three budgets in micro-tokens; the per-request caps in whole tokens (floored)."""

    tokens_per_minute: int
    burst_tokens: int
    tokens_per_day: int | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_tokens_per_request: int | None = None
    default_max_completion: int = 1000
    estimator: Estimator = "simple_word"
    reservation: Reservation = "worst_case"
    streaming: Streaming = field(default_factory=Streaming)


Algorithm = TokenBucket | SlidingWindow | CostBudget | LlmBudget


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit (§2.4). `match` pairs descriptor keys with the text they must equal."""

    name: str
    limit_keys: tuple[str, ...]
    algorithm: Algorithm
    match: tuple[tuple[str, str], ...] = ()
    on_missing: OnMissing = "skip"
    on_error: OnError = "allow"
    reject_status: Literal[429, 503] = 429
    unknown_model: UnknownModel = "default_cost"


@dataclass(frozen=True, slots=True)
class LoopDetection:
    """§5.7; present only when enabled."""

    window_seconds: int
    threshold: int
    action: LoopAction = "reject"


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """§5.8; present only when enabled. `threshold` in micro-units per minute; reset 0 = by hand."""

    threshold: int
    auto_reset_minutes: Fraction = Fraction(0)
    alert: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy (§2.3)."""

    id: str
    selector: Selector
    rules: tuple[Rule, ...] = ()
    mode: Mode = "enforce"
    fallback_limit: Rule | None = None
    loop_detection: LoopDetection | None = None
    circuit_breaker: CircuitBreaker | None = None


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """§6.1. `expires_at` in epoch seconds."""

    scope_key: str
    scope_value: str
    route: str | None = None
    reason: str | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """`global_shadow` or `kill_switch_override` (§2.2), present only when enabled."""

    reason: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class JwtKey:
    """One verification key (§12.2). Exactly one of the three sources is set."""

    id: str
    algorithm: JwtAlgorithm
    secret: str | None = field(default=None, repr=False)
    public_key: str | None = None
    jwks_file: str | None = None


@dataclass(frozen=True, slots=True)
class JwtPolicy:
    """Token verification (§12.2). No keys: claims are read without verification (§12.1)."""

    keys: tuple[JwtKey, ...] = ()
    required: bool = False
    audience: tuple[str, ...] = ()
    issuer: str | None = None
    leeway_seconds: Fraction = Fraction(30)


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Micro-dollars per million tokens, exact (§5.5.3)."""

    input_per_million: Fraction
    output_per_million: Fraction


@dataclass(frozen=True, slots=True)
class Bundle:
    """A whole validated bundle; policies in id order (byte order)."""

    version: int
    policies: tuple[Policy, ...]
    kill_switches: tuple[KillSwitch, ...] = ()
    global_shadow: Override | None = None
    kill_switch_override: Override | None = None
    jwt: JwtPolicy = field(default_factory=JwtPolicy)
    model_prices: tuple[tuple[str, ModelPrice], ...] = ()
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of validation: a JSONPath-like place and what to do about it."""

    path: str
    message: str
