from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.debug_fields import MAX_VALUE_BYTES, debug_fields, field_value
from protocol.decision import Decision


def test_a_reject_explains_itself() -> None:
    decision = Decision(
        action="reject",
        status=429,
        reason="tpm_exceeded",
        policy_id="p",
        rule_name="r",
        matched=("a", "p"),
    )
    assert debug_fields(decision, 17, {"jwt:org": "o", "header:b": "1"}) == [
        ("X-Fairvisor-Decision", "reject"),
        ("X-Fairvisor-Mode", "enforce"),
        ("X-Fairvisor-Latency-Us", "17"),
        ("X-Fairvisor-Debug-Decision", "reject"),
        ("X-Fairvisor-Debug-Mode", "enforce"),
        ("X-Fairvisor-Debug-Reason", "tpm_exceeded"),
        ("X-Fairvisor-Debug-Policy", "p"),
        ("X-Fairvisor-Debug-Rule", "r"),
        ("X-Fairvisor-Debug-Latency-Us", "17"),
        ("X-Fairvisor-Debug-Matched-Policies", "a,p"),
        ("X-Fairvisor-Debug-Descriptor-1-Key", "header:b"),
        ("X-Fairvisor-Debug-Descriptor-1-Value", "1"),
        ("X-Fairvisor-Debug-Descriptor-2-Key", "jwt:org"),
        ("X-Fairvisor-Debug-Descriptor-2-Value", "o"),
    ]


def test_what_is_unknown_is_left_out() -> None:
    names = [name for name, _ in debug_fields(Decision(reason="no_matching_policy"), 1, {})]
    assert "X-Fairvisor-Debug-Policy" not in names
    assert "X-Fairvisor-Debug-Matched-Policies" not in names


def test_at_most_16_descriptors_in_order() -> None:
    fields = dict(debug_fields(Decision(), 1, {f"query:k{n:02}": "v" for n in range(40)}))
    assert fields["X-Fairvisor-Debug-Descriptor-16-Key"] == "query:k15"
    assert "X-Fairvisor-Debug-Descriptor-17-Key" not in fields


@given(st.text())
def test_any_value_fits_on_its_line(text: str) -> None:
    value = field_value(text)
    assert len(value) <= MAX_VALUE_BYTES
    assert all(" " <= each <= "~" for each in value)


def test_a_cut_value_keeps_whole_escapes() -> None:
    assert field_value("u" * 300) == "u" * 256
    assert field_value("u" * 255 + "é") == "u" * 255
    assert field_value("u" * 254 + "é") == "u" * 254
