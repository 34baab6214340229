import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.engine.crawler_list import END, START, public_list, substrings


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("Googlebot\\/", {"googlebot/"}),
        ("[cC]laude[bB]ot", {"claudebot"}),
        ("Ahrefs(Bot|SiteAudit)", {"ahrefsbot", "ahrefssiteaudit"}),
        ("Chirp|gotosocial", {"chirp", "gotosocial"}),
        ("(sistrix|SISTRIX) [cC]rawler", {"sistrix crawler"}),
        ("^Seekbot", {START + "seekbot"}),
        ("^BW\\/", {START + "bw/"}),
        ("SSL Labs$", {"ssl labs" + END}),
        ("(^| )sentry\\/", {START + "sentry/", " sentry/"}),
        ("grub\\.org", {"grub.org"}),
    ],
)
def test_plain_regular_expressions_become_texts(pattern: str, texts: set[str]) -> None:
    assert substrings(pattern) == texts


@pytest.mark.parametrize(
    "pattern",
    [
        "AdsBot-Google([^-]|$)",
        "Current[\\s\\S]*RSS Reader",
        "BlogTraffic\\/\\d\\.\\d+ Feed-Fetcher",
        "any.thing",
        "optional?",
        "(?:group)ing",
        "(unclosed",
        "unopened)",
        "[unclosed",
        "trailing\\",
        "RED\\/",
        "ds9",
        "",
    ],
)
def test_what_substrings_cannot_say_is_left_out(pattern: str) -> None:
    assert substrings(pattern) == frozenset()


def test_few_of_the_list_are_left_out() -> None:
    crawlers = public_list()
    assert len(crawlers) > 1000
    left_out = [crawler.pattern for crawler in crawlers if not substrings(crawler.pattern)]
    assert len(left_out) < len(crawlers) / 50


@given(st.text(alphabet="aB1 ()|[]\\/.^$*", max_size=12))
def test_every_text_matches_its_pattern(pattern: str) -> None:
    for text in substrings(pattern):
        sample = text.removeprefix(START).removesuffix(END)
        if START not in sample and END not in sample:
            assert re.search(pattern, sample, re.IGNORECASE)
