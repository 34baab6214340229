import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from daemon.engine.bots import MAX_LENGTH, BotTable
from daemon.engine.crawler_list import ListedCrawler, public_list

TABLE = BotTable(public_list())

REQUIRED = {
    "ai_crawler": [
        "GPTBot",
        "OAI-SearchBot",
        "ClaudeBot",
        "anthropic-ai",
        "Meta-ExternalAgent",
        "Google-Extended",
        "Bytespider",
        "CCBot",
        "PerplexityBot",
    ],
    "ai_assistant_user": ["ChatGPT-User", "Claude-Web"],
    "search_engine": ["Googlebot", "Bingbot"],
    "social_preview": ["Twitterbot"],
    "monitoring_uptime": ["UptimeRobot"],
    "seo_research": ["AhrefsBot"],
    "other_bot": ["Amazonbot"],
}


@pytest.mark.parametrize(
    ("name", "category"), [(name, kind) for kind, names in REQUIRED.items() for name in names]
)
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "{}/1.0",
        "Mozilla/5.0 (compatible; {}/2.1; +https://example.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; {}) Chrome/120.0",
    ],
)
def test_the_required_table(name: str, category: str, form: str) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert TABLE.category(form.format(spelled)) == category


BROWSERS = Path(__file__).with_name("browsers.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("user_agent", BROWSERS)
def test_browsers_are_no_bots(user_agent: str) -> None:
    assert TABLE.category(user_agent) is None


@pytest.mark.parametrize(
    "user_agent",
    ["curl/8.5.0", "okhttp/4.12.0", "python-requests/2.31", "axios/1.6", "OpenAI/Python 1.12.0"],
)
def test_plain_http_libraries_are_ordinary_clients(user_agent: str) -> None:
    assert TABLE.category(user_agent) is None


def test_nearly_all_samples_of_the_public_list_are_known() -> None:
    spec = find_spec("crawleruseragents")
    assert spec is not None
    assert spec.origin is not None
    entries = json.loads(Path(spec.origin).with_name("crawler-user-agents.json").read_text("utf-8"))
    samples = [
        sample
        for entry in entries
        if entry["tags"] != ["http-library"]
        for sample in entry["instances"]
    ]
    unknown = [sample for sample in samples if TABLE.category(sample) is None]
    assert len(unknown) < len(samples) / 50


def test_the_longest_pattern_wins() -> None:
    table = BotTable(
        [
            ListedCrawler("shortbot", ("seo",)),
            ListedCrawler("longshortbot", ("archiver",)),
            ListedCrawler("equals12bot!", ("monitoring",)),
        ]
    )
    assert table.category("a ShortBot/1") == "seo_research"
    assert table.category("shortbot longshortbot shortbot") == "archiver"
    assert table.category("equals12bot! longshortbot") == "monitoring_uptime"  # leftmost of two


def test_anchors_hold() -> None:
    table = BotTable([ListedCrawler("^Silk\\/"), ListedCrawler("Labs$")])
    assert table.category("Silk/1.0") == "other_bot"
    assert table.category("Mozilla/5.0 Silk/108") is None
    assert table.category("SSL labs") == "other_bot"
    assert table.category("Labs of yore") is None


@pytest.mark.parametrize(
    ("tags", "category"),
    [
        (("search-engine", "ai-crawler"), "ai_crawler"),
        (("search-engine",), "search_engine"),
        (("social-preview",), "social_preview"),
        (("monitoring",), "monitoring_uptime"),
        (("seo",), "seo_research"),
        (("archiver",), "archiver"),
        (("advertising",), "other_bot"),
        (("a tag of tomorrow",), "other_bot"),
        ((), "other_bot"),
        (("http-library",), None),
        (("http-library", "scanner"), "other_bot"),
    ],
)
def test_tags_become_categories(tags: tuple[str, ...], category: str | None) -> None:
    assert BotTable([ListedCrawler("examplebot", tags)]).category("ExampleBot") == category


def test_only_the_beginning_is_read() -> None:
    assert TABLE.category("x" * (MAX_LENGTH - 6) + "GPTBot") == "ai_crawler"
    assert TABLE.category("x" * MAX_LENGTH + "GPTBot") is None


def test_no_text_at_all_is_no_bot() -> None:
    assert TABLE.category("") is None
