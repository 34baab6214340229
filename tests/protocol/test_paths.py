from random import Random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.paths import climbs, normal_form, spellings

SEGMENTS = st.text(min_size=1).filter(lambda text: "/" not in text and text not in (".", ".."))
HARMLESS = st.lists(SEGMENTS).map(lambda segments: "/" + "/".join(segments))


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/", "/"),
        ("", "/"),
        ("/v1/x", "/v1/x"),
        ("/v1/x/", "/v1/x/"),
        ("v1/x", "/v1/x"),
        ("*", "/*"),
        ("//v1///x", "/v1/x"),
        ("/v1/x//", "/v1/x/"),
        ("/./v1/x", "/v1/x"),
        ("/a/../v1/x", "/v1/x"),
        ("/a//../v1/x", "/v1/x"),
        ("/../../v1", "/v1"),
        ("/v1/.", "/v1/"),
        ("/v1/x/..", "/v1/"),
        ("/v1/..", "/"),
        ("/v1/../", "/"),
        ("/..", "/"),
        ("/v1/...", "/v1/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/v1/x.", "/v1/x."),
        ("/%761/x", "/v1/x"),
        ("/admin%2fkeys", "/admin/keys"),
        ("/admin%2Fkeys", "/admin/keys"),
        ("/a/%2e%2e/v1", "/v1"),
        ("/a/%2E./v1", "/v1"),
        ("/a%2f..%2fv1", "/v1"),
        ("/%252e%252e/v1", "/%2e%2e/v1"),
        ("/%2561", "/%61"),
        ("/%zz/%4/%", "/%zz/%4/%"),
        ("/a%3Fb", "/a?b"),
        ("/a+b", "/a+b"),
        ("/a%5c..%5cb", "/a\\..\\b"),
        ("/a/..;/b", "/a/..;/b"),
        ("/a/..;x=1/b", "/a/..;x=1/b"),
        ("/caf%C3%A9", "/café"),
        ("/café", "/café"),
        ("/%ff/x", "/\ufffd/x"),
        ("/\udcff/x", "/\ufffd/x"),
        ("/caf\udcc3\udca9", "/café"),
        ("/%00", "/\0"),
        ("/v1#x", "/v1"),
        ("/v1/../v2#/../v3", "/v2"),
        ("/v1%23x", "/v1#x"),
        ("#", "/"),
    ],
)
def test_examples(path: str, normal: str) -> None:
    assert normal_form(path) == normal


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("/v1/x", ()),
        ("/v1//x", ("/v1/x",)),
        ("/v1;a=1/x", ("/v1/x",)),
        ("/v1/x;", ("/v1/x",)),
        ("/a/..;/v1", ("/v1",)),
        ("/a/..;x=/%76%31", ("/a/..;x=/v1", "/v1")),
        ("/v1/x%3ba", ("/v1/x;a", "/v1/x")),
        ("/v1;a/x%3bb", ("/v1;a/x;b", "/v1/x;b", "/v1/x")),
        ("/a/..%3b/v1", ("/a/..;/v1", "/v1")),
        ("/v1/x#;/y", ("/v1/x",)),
        (";", ("/;", "/")),
    ],
)
def test_what_an_upstream_may_take_a_path_for(path: str, others: tuple[str, ...]) -> None:
    assert spellings(path) == others


@given(st.text(alphabet=st.characters()))
def test_any_text_gives_a_rooted_and_encodable_path_without_dots_or_doubles(path: str) -> None:
    normal = normal_form(path)
    assert normal.startswith("/")
    assert normal.encode()
    assert "//" not in normal
    assert not {".", ".."} & set(normal.split("/"))


@given(HARMLESS.filter(lambda path: not {"%", "#"} & set(path) and "//" not in path))
def test_a_normal_path_stays(path: str) -> None:
    assert normal_form(path) == path


@given(HARMLESS.filter(lambda path: "//" not in path), st.randoms())
def test_no_spelling_of_a_path_has_another_normal_form(path: str, random: Random) -> None:
    escaped = quote(path, safe="/" if random.random() < 0.5 else "")
    dotted = escaped.replace("/", "/x/../").replace("/x", "/./x", 1)
    assert normal_form(escaped) == path
    assert normal_form("/" + dotted) == path


@given(st.text(alphabet="/.%2eEfF;a#"))
def test_shortcut_and_full_way_agree(path: str) -> None:
    # A leading "%2e/" is nothing, but sends the path the full way.
    assert normal_form("/%2e/" + path) == normal_form("/" + path)


@pytest.mark.parametrize(
    "path",
    [
        "/..", "/../x", "/a/../../x", "/%2e%2e/x", "/%2E./x", "/..%2fx", "/a%2f..%2f..%2fx",
        "/%252e%252e/x", "/..;/x", "/..;a=b/x", "/..%3bx/y", "/a//../../x", "/./../x", "/..\\x",
        "/..%5cx", "/a/..;/..;/x", "/%2e%2e", "/a/%2e%2e/%2e%2e/x",
    ],
)  # fmt: skip
def test_paths_that_climb(path: str) -> None:
    assert climbs(path)


@pytest.mark.parametrize(
    "path",
    [
        "/", "*", "/a", "/a/../b", "/a/b/../../c", "/...", "/..a/b", "/a/..", "/v1/models/gpt-4.1",
        "/a;../b", "/a%2fb/../c", "/%zz", "/x#/../..", "/a/.%2e/b", "/%25/..a",
    ],
)  # fmt: skip
def test_paths_that_do_not_climb(path: str) -> None:
    assert not climbs(path)


@given(HARMLESS.filter(lambda path: "%" not in path and "\\" not in path and ";" not in path))
def test_a_path_without_dots_climbs_nowhere(path: str) -> None:
    assert not climbs(path)
    assert climbs("/.." + path)
