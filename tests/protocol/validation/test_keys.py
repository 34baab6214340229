import pytest

from protocol.validation.keys import canonical_key, key_fault


def test_canonical() -> None:
    assert canonical_key("header:X_Y") == "header:x-y"
    assert canonical_key("jwt:X_Y") == "jwt:X_Y"
    assert canonical_key("nope") is None


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("ip", "did you mean `ip:address`"),
        ("address", "did you mean `ip:address`?"),
        ("plan", "`jwt:plan`, `header:plan` or `query:plan`?"),
        ("ua:bots", "`ua:bot`?"),
        ("headers:x", "`header`?"),
        ("jwt:a.b", "nested claims"),
        ("jwt:", "the name is missing"),
        ("query:a[]", '"a[]" is not a name'),
        ("a b", '"a b"'),
        (None, "null"),
        (7, "7"),
    ],
)
def test_advice(value: object, advice: str) -> None:
    message = key_fault("limit_key", value)
    assert message.startswith("limit_key must be")
    assert advice in message
