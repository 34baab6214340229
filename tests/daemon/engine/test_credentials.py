import pytest

from daemon.engine.credentials import Credential, composite_credential, passthrough_credential


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (b"Bearer a.b.c:sk-1", Credential(b"Bearer a.b.c", b"sk-1")),
        (b"Bearer a.b.c:sk:with:colons", Credential(b"Bearer a.b.c", b"sk:with:colons")),
        (b"Bearer x::", Credential(b"Bearer x", b":")),
        (b"Bearer sk-123", None),
        (b"Bearer a.b.c:", None),
        (b"Bearer a.b.c: ", None),
        (b"Bearer :sk", None),
        (b"Bearer  :sk", None),
        (b"Bearer :", None),
        (b"Bearer ", None),
        (b"bearer a:b", None),
        (b"BEARER a:b", None),
        (b"Bearer\ta:b", None),
        (b"Basic a:b", None),
        (b"a:b", None),
        (b"", None),
        (None, None),
    ],
)
def test_the_composite_form(authorization: bytes | None, expected: Credential | None) -> None:
    assert composite_credential(authorization) == expected


@pytest.mark.parametrize(
    ("authorization", "key"),
    [
        (b"Bearer sk-123", b"sk-123"),
        (b"Bearer a.b.c:sk", b"a.b.c:sk"),
        (b"Bearer ", None),
        (b"Basic x", None),
        (None, None),
    ],
)
def test_passing_through_takes_all_and_gives_no_claims(
    authorization: bytes | None, key: bytes | None
) -> None:
    expected = None if key is None else Credential(None, key)
    assert passthrough_credential(authorization) == expected


def test_a_credential_does_not_print() -> None:
    shown = repr(composite_credential(b"Bearer a.b.c:sk-1"))
    assert "sk-1" not in shown
    assert "a.b.c" not in shown
