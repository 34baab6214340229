"""A definition of the schema as a Markdown table of fields."""

from collections.abc import Iterable, Iterator

from protocol.schema.parts import MOMENT, PATH, Schema
from protocol.validation.amounts import (
    LARGEST_AMOUNT,
    LARGEST_SPAN,
    LARGEST_VERSION,
    SMALLEST_RATE,
)

Row = tuple[str, ...]

LINKS = {
    "policy": "policy",
    "selector": "selector",
    "rule": "rule",
    "fallback": "rule",
    "stage": "stage",
    "tokenSource": "token_source",
    "streaming": "streaming",
    "loopDetection": "loop_detection",
    "circuitBreaker": "circuit_breaker",
    "killSwitch": "kill switch",
    "override": "override block",
    "jwt": "jwt",
    "jwtKey": "key",
    "modelPrice": "price",
    "descriptorKey": "descriptor key",
}
"""Definitions and the headings that describe them."""

NEEDS = {
    ("tokenBucket", "tokens_per_second"): "required, or `rps`",
    ("tokenBucket", "rps"): "",
    ("selector", "pathExact"): "this or `pathPrefix`",
    ("selector", "pathPrefix"): "this or `pathExact`",
    ("rule", "name"): "required (`fallback_limit`: `fallback_limit`)",
    ("llmBudget", "burst_tokens"): "`tokens_per_minute`",
    ("stage", "delay_ms"): "required for `throttle`",
    ("jwtKey", "secret"): "required for `HS256`",
    ("jwtKey", "public_key"): "this or `jwks_file`, except for `HS256`",
    ("jwtKey", "jwks_file"): "this or `public_key`, except for `HS256`",
}
"""Defaults and needs that depend on other fields."""

_ROUND: dict[float, str] = {
    LARGEST_AMOUNT: "10¹²",
    LARGEST_SPAN: "10⁹",
    LARGEST_VERSION: "2⁶³ - 1",
    float(SMALLEST_RATE): "10⁻⁹",
}

_PATTERNS = {PATH["pattern"]: "starts with `/`", MOMENT["pattern"]: "`YYYY-MM-DDTHH:MM:SSZ`"}


def fields(name: str, definition: Schema) -> list[Row]:
    """Return a row per field: name, type, default or need, bounds, meaning."""
    shapes: dict[str, Schema] = {key: dict(each) for key, each in definition["properties"].items()}
    always = set(definition.get("required", ()))
    if_on: set[str] = set()
    for branch in _branches(definition):
        if "enabled" in definition["properties"]:
            if_on |= set(branch.get("required", ()))
        for key, more in branch.get("properties", {}).items():
            if isinstance(more, dict) and key in shapes and "$ref" not in more:
                shapes[key] = more | shapes[key]
    rows: list[Row] = []
    for key, shape in shapes.items():
        need = (
            "required" if key in always else "required if on" if key in if_on else _default(shape)
        )
        need = NEEDS.get((name, key), need)
        rows.append((f"`{key}`", _type(shape), need, bounds(shape), shape["description"]))
    return rows


def table(heads: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def bounds(shape: Schema) -> str:
    """Return the bounds of a value in words, "" for none."""
    return ", ".join(_bounds(shape))


def _bounds(shape: Schema) -> Iterator[str]:
    if "exclusiveMinimum" in shape:
        yield f"> {shape['exclusiveMinimum']}"
    if "minimum" in shape:
        yield f"≥ {_figure(shape['minimum'])}"
    if "maximum" in shape:
        yield f"≤ {_figure(shape['maximum'])}"
    if shape.get("minLength"):
        yield "not empty"
    if "maxLength" in shape:
        yield f"at most {shape['maxLength']} bytes"
    if shape.get("minItems"):
        yield "not empty"
    if "pattern" in shape:
        yield _PATTERNS.get(shape["pattern"]) or _sources(shape["pattern"])


def _sources(pattern: str) -> str:
    """Return a cost's alternatives, told by their pattern."""
    kinds = [kind for kind in ("llm:usd", "llm:tokens") if kind in pattern]
    shown = ["fixed", "header:<name>", "query:<name>", *kinds]
    return ", ".join(f"`{kind}`" for kind in shown)


def _branches(definition: Schema) -> Iterator[Schema]:
    for condition in definition.get("allOf", ()):
        yield condition.get("then", {})
        yield condition.get("else", {})


def _default(shape: Schema) -> str:
    if "default" not in shape:
        return ""
    value = shape["default"]
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(shape: Schema) -> str:
    if "$ref" in shape:
        return _link(shape["$ref"])
    words = shape.get("enum", [shape["const"]] if "const" in shape else [])
    if words:
        return " or ".join(f"`{word}`" for word in words)
    if "anyOf" in shape:
        return " or ".join(_type(each) for each in shape["anyOf"])
    if shape.get("type") == "array":
        return f"array of {_type(shape['items'])}"
    if isinstance(shape.get("additionalProperties"), dict):
        return f"object of {_type(shape['additionalProperties'])}"
    kind = shape.get("type", "anything")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _link(reference: str) -> str:
    heading = LINKS[reference.removeprefix("#/$defs/")]
    return f"[{heading}](#{heading.replace(' ', '-')})"


def _figure(value: float) -> str:
    return _ROUND.get(value, str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
