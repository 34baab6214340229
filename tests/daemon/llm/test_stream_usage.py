import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.llm.stream_usage import ask_for_usage, without_null_usage

options = (
    st.none()
    | st.booleans()
    | st.fixed_dictionaries(
        {},
        optional={"include_usage": st.none() | st.booleans(), "include_obfuscation": st.booleans()},
    )
)
bodies = st.fixed_dictionaries(
    {},
    optional={"stream": st.none() | st.booleans(), "stream_options": options, "n": st.integers()},
)


@given(bodies, st.sampled_from([None, 1]))
def test_the_upstream_is_asked_and_nothing_else_changes(
    body: dict[str, object], indent: int | None
) -> None:
    raw = json.dumps(body, indent=indent).encode()
    changed, hidden = ask_for_usage(raw, body)
    given_options = body.get("stream_options")
    asked = isinstance(given_options, dict) and given_options.get("include_usage") is True
    assert hidden == (body.get("stream") is True and not asked)
    if not hidden:
        assert changed == raw
        return
    sent = json.loads(changed)
    assert sent.pop("stream_options")["include_usage"] is True
    assert sent == {name: value for name, value in body.items() if name != "stream_options"}


def test_bytes_stay_where_the_field_is_new() -> None:
    raw = b' {"stream":true, "seed":123456789012345678901234567890}\n'
    changed, hidden = ask_for_usage(raw, {"stream": True})
    assert hidden
    assert changed == b' {"stream_options":{"include_usage":true},' + raw[2:]


def test_other_options_and_big_numbers_survive() -> None:
    raw = b'{"stream":true,"stream_options":{"x":1},"seed":123456789012345678901234567890}'
    changed, _ = ask_for_usage(raw, json.loads(raw))
    sent = json.loads(changed)
    assert sent["stream_options"] == {"x": 1, "include_usage": True}
    assert sent["seed"] == 123456789012345678901234567890


@pytest.mark.parametrize("data", [None, [], "x", 7])
def test_other_bodies_pass(data: object) -> None:
    assert ask_for_usage(b"whatever", data) == (b"whatever", False)


@given(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text(), min_size=1),
    st.integers(0, 5),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]),
)
def test_a_null_usage_goes_and_nothing_else(
    fields: dict[str, object], place: int, separators: tuple[str, str]
) -> None:
    fields.pop("usage", None)
    fields["last"] = 1
    items = list(fields.items())
    items.insert(place, ("usage", None))
    raw = b"data: " + json.dumps(dict(items), separators=separators).encode() + b"\r\n\r\n"
    rest = without_null_usage(raw)
    assert json.loads(rest.removeprefix(b"data: ")) == fields
    assert rest.endswith(b"}\r\n\r\n")


@pytest.mark.parametrize(
    "text",
    ['{"usage":null}', '{"usage":null,"x":{"a":1,"usage":null}}', '{"a":"\\"usage\\":null","b":1}'],
)
def test_what_is_not_clear_stays(text: str) -> None:
    assert without_null_usage(text.encode()) == text.encode()
