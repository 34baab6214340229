from daemon.engine.edge_headers import first_edge_header, is_edge_header


def test_all_headers_of_the_edge_are_known() -> None:
    for name in (
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-original-uri",
        b"x-country-code",
        b"x-asn",
        b"x-asn-type",
        b"x-tor-exit",
        b"x-token-estimate",
    ):
        assert is_edge_header(name)


def test_ordinary_headers_are_not() -> None:
    assert first_edge_header([b"host", b"forwarded", b"x-real-ip", b"x-asn-other"]) is None
    assert first_edge_header([b"host", b"x-asn", b"x-original-uri"]) == b"x-asn"
