"""The pieces that the schema is made of."""

from typing import Any, get_args

from protocol.validation.amounts import Range

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
PATH: Schema = {"type": "string", "pattern": "^/"}
MOMENT: Schema = {
    "type": "string",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
}
BOOLEAN: Schema = {"type": "boolean"}
NAME = "[A-Za-z0-9_-]+"
"""What stands behind `jwt:`, `header:` and `query:` (§4.3)."""


def told(schema: Schema, description: str, default: object = None) -> Schema:
    """Return a field with what editors show for it."""
    shown = {} if default is None else {"default": default}
    return {"description": description, **schema, **shown}


def object_of(properties: dict[str, Schema], **more: object) -> Schema:
    """Return an object with these fields."""
    return {"type": "object", "properties": properties, **more}


def array_of(items: Schema, **more: object) -> Schema:
    """Return an array of such items."""
    return {"type": "array", "items": items, **more}


def switchable(
    properties: dict[str, Schema], settings: dict[str, Schema], required: list[str]
) -> Schema:
    """Return an object whose settings are only checked while `enabled` is true."""
    return object_of(
        {"enabled": told(BOOLEAN, "Whether it is on.", default=False), **properties},
        allOf=[
            when(has("enabled", {"const": True}), {"required": required, "properties": settings})
        ],
    )


def when(condition: Schema, then: Schema, otherwise: Schema | None = None) -> Schema:
    """Return what holds if a condition does, and what otherwise."""
    schema = {"if": condition, "then": then}
    return schema if otherwise is None else schema | {"else": otherwise}


def has(name: str, schema: Schema) -> Schema:
    """Return the condition that a field is there and is so."""
    return {"required": [name], "properties": {name: schema}}


def ref(name: str) -> Schema:
    """Return a reference to a definition."""
    return {"$ref": f"#/$defs/{name}"}


def enum(literal: object) -> Schema:
    """Return the words of a Literal."""
    return {"enum": list(get_args(literal))}


def number(range_: Range) -> Schema:
    """Return the bounds of a range."""
    low = int(range_.low) if range_.low.denominator == 1 else float(range_.low)
    return {
        "type": "integer" if range_.whole else "number",
        "exclusiveMinimum" if range_.above_low else "minimum": low,
        "maximum": int(range_.high),
    }
