import pytest

from daemon.front.upstream_headers import (
    Headers,
    extend_forwarded_for,
    injected_headers,
    parse_strip_list,
    strip_and_inject,
    upstream_headers,
    without_hop_by_hop,
)

NOTHING: frozenset[bytes] = frozenset()


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
    found = strip_and_inject(headers, parse_strip_list("authorization"), [(b"X-Api-Key", b"ours")])
    assert found == [
        (b"Accept", b"*/*"),
        (b"Cookie", b"a"),
        (b"Cookie", b"b"),
        (b"X-Api-Key", b"ours"),
    ]


def test_a_header_may_be_stripped_and_set() -> None:
    found = strip_and_inject(
        [(b"authorization", b"client")],
        parse_strip_list("Authorization"),
        [(b"Authorization", b"ours")],
    )
    assert found == [(b"Authorization", b"ours")]


def test_nothing_to_do_changes_nothing() -> None:
    headers = [(b"B", b"1"), (b"a", b"2"), (b"B", b"3")]
    assert strip_and_inject(headers, NOTHING, []) == headers


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
    assert extend_forwarded_for(headers, peer) == expected


def test_all_in_order() -> None:
    found = upstream_headers(
        [
            (b"Host", b"edge.example"),
            (b"Connection", b"authorization, x-api-key"),
            (b"Authorization", b"client"),
            (b"Accept", b"*/*"),
            (b"X-Debug", b"1"),
        ],
        host=b"backend:8080",
        peer="192.0.2.1",
        strip=parse_strip_list("x-debug"),
        inject=[(b"X-Api-Key", b"ours")],
    )
    assert found == [
        (b"Host", b"backend:8080"),
        (b"Accept", b"*/*"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Api-Key", b"ours"),
    ]


def test_what_the_operator_strips_or_sets_is_final() -> None:
    found = upstream_headers(
        [(b"X-Forwarded-For", b"1.1.1.1")],
        host=b"b",
        peer="192.0.2.1",
        strip=parse_strip_list("X-Forwarded-For"),
        inject=[(b"host", b"other.example")],
    )
    assert found == [(b"Host", b"b"), (b"host", b"other.example")]
