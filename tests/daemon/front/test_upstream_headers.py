import pytest

from daemon.front.upstream_headers import (
    Headers,
    UpstreamHeaders,
    injected_headers,
    parse_strip_list,
    without_hop_by_hop,
)

NOTHING: frozenset[bytes] = frozenset()


def sent(  # noqa: PLR0913 - everything that decides what goes up
    headers: Headers,
    strip: frozenset[bytes] = NOTHING,
    inject: Headers | None = None,
    *,
    peer: str = "",
    key: Headers | None = None,
    gone: frozenset[bytes] = NOTHING,
) -> Headers:
    """Return what goes upstream, without Host; twice the same, the second time from memory."""
    made = UpstreamHeaders(strip, inject or [], gone)
    first, second = (made.lines(headers, host=b"b", peer=peer, key=key or []) for _ in range(2))
    assert first == second
    lines = first.split(b"\r\n")
    assert (lines[0], lines[-1]) == (b"Host: b", b"")
    pairs = (line.partition(b": ") for line in lines[1:-1])
    return [(name, value) for name, _, value in pairs]


def test_the_strip_list() -> None:
    expected = {b"authorization", b"x-api-key"}
    assert parse_strip_list(" Authorization, X_Api_Key ,,") == expected
    assert parse_strip_list("") == NOTHING


def test_injected_headers_come_from_the_environment() -> None:
    environ = {
        "FAIRVISOR_UPSTREAM_HEADER_X_Api_Key": "secret",
        "FAIRVISOR_UPSTREAM_HEADER_AUTHORIZATION": "Bearer sk",
        "FAIRVISOR_MODE": "wrapper",
        "PATH": "/bin",
    }
    assert injected_headers(environ) == [
        (b"AUTHORIZATION", b"Bearer sk"),
        (b"X-Api-Key", b"secret"),
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"FAIRVISOR_UPSTREAM_HEADER_": "v"},
        {"FAIRVISOR_UPSTREAM_HEADER_A:B": "v"},
        {"FAIRVISOR_UPSTREAM_HEADER_Ä": "v"},
        {"FAIRVISOR_UPSTREAM_HEADER_X": "hidden\r\nEvil: 1"},
        {"FAIRVISOR_UPSTREAM_HEADER_X": "hidden\x00"},
    ],
)
def test_what_no_header_can_be_is_refused_without_showing_it(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="FAIRVISOR_UPSTREAM_HEADER_") as caught:
        injected_headers(environ)
    assert "hidden" not in str(caught.value)


def test_strip_then_inject() -> None:
    headers = [
        (b"Accept", b"*/*"),
        (b"AUTHORIZATION", b"client"),
        (b"x_api_key", b"client"),
        (b"Cookie", b"a"),
        (b"X-API-KEY", b"client"),
        (b"Cookie", b"b"),
    ]
    found = sent(headers, parse_strip_list("authorization"), [(b"X-Api-Key", b"ours")])
    assert found == [
        (b"Accept", b"*/*"),
        (b"Cookie", b"a"),
        (b"Cookie", b"b"),
        (b"X-Api-Key", b"ours"),
    ]


def test_a_header_may_be_stripped_and_set() -> None:
    found = sent(
        [(b"authorization", b"client")],
        parse_strip_list("Authorization"),
        [(b"Authorization", b"ours")],
    )
    assert found == [(b"Authorization", b"ours")]


def test_nothing_to_do_changes_nothing() -> None:
    headers = [(b"B", b"1"), (b"a", b"2"), (b"B", b"3")]
    assert sent(headers) == headers


def test_headers_of_the_connection_stay_behind() -> None:
    headers = [
        (b"Connection", b"keep-alive, X-Private"),
        (b"connection", b"x-other"),
        (b"Keep-Alive", b"5"),
        (b"Proxy-Authorization", b"x"),
        (b"Proxy-Connection", b"x"),
        (b"TE", b"trailers"),
        (b"Trailer", b"x"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"websocket"),
        (b"X-Private", b"1"),
        (b"X-Other", b"1"),
        (b"Accept", b"*/*"),
    ]
    assert without_hop_by_hop(headers) == [(b"Accept", b"*/*")]


def test_a_client_cannot_have_framing_or_its_traces_dropped() -> None:
    kept = [(b"Host", b"h"), (b"Content-Length", b"3"), (b"X-Forwarded-For", b"1.1.1.1")]
    naming = [(b"Connection", b"host, content-length, x-forwarded-for")]
    assert without_hop_by_hop(naming + kept) == kept


@pytest.mark.parametrize(
    ("headers", "peer", "expected"),
    [
        ([], "192.0.2.1", [(b"X-Forwarded-For", b"192.0.2.1")]),
        ([(b"x-forwarded-for", b"1.1.1.1")], "::1", [(b"X-Forwarded-For", b"1.1.1.1, ::1")]),
        (
            [(b"X-Forwarded-For", b"a"), (b"B", b"1"), (b"X-FORWARDED-FOR", b"c")],
            "192.0.2.1",
            [(b"B", b"1"), (b"X-Forwarded-For", b"a, c, 192.0.2.1")],
        ),
        ([(b"X-Forwarded-For", b"a")], "", [(b"X-Forwarded-For", b"a")]),
        ([(b"A", b"1")], "", [(b"A", b"1")]),
    ],
)
def test_forwarded_for_is_extended(headers: Headers, peer: str, expected: Headers) -> None:
    assert sent(headers, peer=peer) == expected


def test_all_in_order() -> None:
    found = sent(
        [
            (b"Host", b"edge.example"),
            (b"Connection", b"authorization, x-api-key"),
            (b"Authorization", b"client"),
            (b"Accept", b"*/*"),
            (b"X-Debug", b"1"),
        ],
        parse_strip_list("x-debug"),
        [(b"X-Api-Key", b"ours")],
        peer="192.0.2.1",
    )
    assert found == [
        (b"Accept", b"*/*"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Api-Key", b"ours"),
    ]


def test_what_the_operator_strips_or_sets_is_final() -> None:
    found = sent(
        [(b"X-Forwarded-For", b"1.1.1.1")],
        parse_strip_list("X-Forwarded-For"),
        [(b"host", b"other.example")],
        peer="192.0.2.1",
    )
    assert found == [(b"host", b"other.example")]


def test_what_the_client_names_is_dropped_wherever_it_stands() -> None:
    headers = [(b"X-Early", b"1"), (b"Connection", b"x-early, close, x-late"), (b"X-Late", b"1")]
    assert sent([*headers, (b"A", b"1")]) == [(b"A", b"1")]


def test_a_connection_that_names_nothing_drops_nothing() -> None:
    headers = [(b"Connection", b"Keep-Alive"), (b"keep-alive", b"5"), (b"Close", b"1")]
    assert sent(headers) == [(b"Close", b"1")]


def test_a_key_is_set_unless_the_operator_sets_it() -> None:
    key = [(b"X-Api-Key", b"route")]
    assert sent([(b"A", b"1")], key=key) == [(b"A", b"1"), *key]
    assert sent([], inject=[(b"x_api_key", b"ours")], key=key) == [(b"x_api_key", b"ours")]


def test_what_is_said_anew_comes_from_nobody() -> None:
    gone = frozenset({b"content-length"})
    headers = [(b"Content_Length", b"3"), (b"A", b"1")]
    assert sent(headers, inject=[(b"content-length", b"4")], gone=gone) == [(b"A", b"1")]
