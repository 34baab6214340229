from pathlib import Path

import pytest

from daemon.settings import (
    VARIABLES,
    SettingsError,
    TcpAddress,
    UnixAddress,
    ignored,
    load,
    parse_listen,
    parse_size,
)


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load({})
    assert settings.mode == "decision_service"
    assert settings.listen == (TcpAddress("127.0.0.1", 8080),)
    assert settings.config_file is None
    assert settings.owner_timeout == 0.05
    assert settings.max_body_bytes == 10_485_760
    assert settings.worker_processes >= 1
    assert settings.shards >= 1


def test_every_variable_fills_a_setting_of_its_own() -> None:
    names = [variable.setting for variable in VARIABLES]
    assert sorted([*names, "provider_urls", "secrets"]) == sorted(load({}).__slots__)


def test_empty_text_counts_as_not_set() -> None:
    assert load({"FAIRVISOR_SHARDS": " ", "FAIRVISOR_CONFIG_FILE": ""}) == load({})


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:1", [TcpAddress("127.0.0.1", 1)]),
        (":8080", [TcpAddress("0.0.0.0", 8080)]),  # noqa: S104 - asked for
        ("[::1]:80, unix:/run/f.sock", [TcpAddress("::1", 80), UnixAddress("/run/f.sock")]),
        ("localhost:0", [TcpAddress("localhost", 0)]),
    ],
)
def test_listeners(text: str, addresses: list[object]) -> None:
    assert list(parse_listen(text)) == addresses


@pytest.mark.parametrize(
    ("name", "text", "fragment"),
    [
        ("FAIRVISOR_LISTEN", "8080", "host:port"),
        ("FAIRVISOR_LISTEN", "127.0.0.1:99999", "host:port"),
        ("FAIRVISOR_LISTEN", "example.com:80", "IP address"),
        ("FAIRVISOR_LISTEN", "unix:relative", "absolute path"),
        ("FAIRVISOR_LISTEN", "unix:/" + "x" * 200, "107"),
        ("FAIRVISOR_LISTEN", ",", "at least one"),
        ("FAIRVISOR_LISTEN", "127.0.0.1:1,127.0.0.1:1", "twice"),
        ("FAIRVISOR_MODE", "proxy", "one of"),
        ("FAIRVISOR_SHARDS", "0", "positive"),
        ("FAIRVISOR_SHARDS", "65", "64"),
        ("FAIRVISOR_SHARDS", "two", "'two' is not a positive whole number, nor auto"),
        ("FAIRVISOR_WORKER_PROCESSES", "-1", "positive"),
        ("FAIRVISOR_OWNER_TIMEOUT_MS", "soon", "number"),
        ("FAIRVISOR_OWNER_TIMEOUT_MS", "nan", "a finite number, greater than 0"),
        ("FAIRVISOR_HEADER_TIMEOUT", "inf", "a finite number, greater than 0"),
        ("FAIRVISOR_FILE_POLL_INTERVAL", "0", "greater than 0"),
        ("FAIRVISOR_MAX_BODY_BYTES", "10q", "size"),
        ("FAIRVISOR_MAX_KEY_CHARS", "15", "from 16 to 1024"),
        ("FAIRVISOR_MAX_KEY_CHARS", "1025", "from 16 to 1024"),
        ("FAIRVISOR_MAX_KEY_CHARS", "16k", "positive whole"),
        ("FAIRVISOR_LOG_LEVEL", "loud", "one of"),
        ("FAIRVISOR_WATCHDOG_SECONDS", "-1", "greater than 0"),
        ("FAIRVISOR_WATCHDOG_SECONDS", "off", "number"),
    ],
)
def test_a_wrong_value_names_the_variable_and_the_fix(name: str, text: str, fragment: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: text})
    assert str(caught.value).startswith(f"{name}: ")
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("512k", 524_288), ("128m", 134_217_728), ("2G", 2_147_483_648)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("", 10), ("2.5", 2.5), ("none", 0), ("0", 0)])
def test_a_watchdog_may_be_off(text: str, seconds: float) -> None:
    assert load({"FAIRVISOR_WATCHDOG_SECONDS": text}).watchdog == seconds


def test_the_signing_key_does_not_print() -> None:
    settings = load({"FAIRVISOR_BUNDLE_SIGNING_KEY": "hush"})
    assert settings.signing_key == b"hush"
    assert "hush" not in repr(settings)


def test_what_changes_nothing_is_told() -> None:
    lines = ignored(
        {
            "FAIRVISOR_SHARD": "3",
            "FAIRVISOR_STORE": "redis://127.0.0.1",
            "FAIRVISOR_STATE_DIR": "none",
            "FAIRVISOR_SHARDS": "3",
            "FAIRVISOR_EDGE_URL": "http://localhost",
            "FAIRVISOR_SAAS_URL": "https://control.example",
            "PATH": "/bin",
        }
    )
    assert lines == [
        "FAIRVISOR_SAAS_URL is ignored: this version has no control plane",
        "FAIRVISOR_SHARD is not a setting and is ignored; did you mean FAIRVISOR_SHARDS?",
        "FAIRVISOR_STORE is ignored: this version keeps counters on one host",
    ]


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"FAIRVISOR_STATE_DIR": "/srv/fv"}, "/srv/fv"),
        ({"FAIRVISOR_STATE_DIR": "none"}, None),
        ({"FAIRVISOR_STATE_DIR": "/srv/fv", "FAIRVISOR_DURABILITY": "memory"}, None),
        ({"FAIRVISOR_STATE_DIR": "/srv/fv", "FAIRVISOR_DURABILITY": "power"}, "/srv/fv"),
    ],
)
def test_where_counters_are_stored(environ: dict[str, str], folder: str | None) -> None:
    assert load(environ).state_dir == (Path(folder) if folder else None)


def test_without_the_systems_folder_counters_are_in_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("daemon.settings.loading.SYSTEM_STATE", tmp_path / "no" / "fairvisor")
    assert load({"HOME": "/home/u"}).state_dir == Path("/home/u/.local/state/fairvisor")
    environ = {"HOME": "/home/u", "XDG_STATE_HOME": "/s"}
    assert load(environ).state_dir == Path("/s/fairvisor")
    assert load({"HOME": "/home/u", "XDG_STATE_HOME": "relative"}).state_dir == Path(
        "/home/u/.local/state/fairvisor"
    )
    (tmp_path / "no").mkdir()
    assert load(environ).state_dir == tmp_path / "no" / "fairvisor"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FAIRVISOR_STATE_DIR": "state"}, "FAIRVISOR_STATE_DIR: 'state' must be an absolute path"),
        ({"FAIRVISOR_DURABILITY": "disk"}, "FAIRVISOR_DURABILITY: 'disk' must be one of memory"),
        (
            {"FAIRVISOR_DURABILITY": "power", "FAIRVISOR_STATE_DIR": "none"},
            "FAIRVISOR_DURABILITY: power needs a folder",
        ),
    ],
)
def test_what_cannot_be_stored_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(environ)


def test_envoy_asks_at_one_address() -> None:
    assert load({}).envoy_listen is None
    assert load({"FAIRVISOR_ENVOY_LISTEN": "[::1]:9"}).envoy_listen == TcpAddress("::1", 9)
    where = {"FAIRVISOR_ENVOY_LISTEN": "unix:/a", "FAIRVISOR_MODE": "hybrid"}
    assert load(where).envoy_listen == UnixAddress("/a")
    with pytest.raises(SettingsError, match="FAIRVISOR_ENVOY_LISTEN: 'a:1,b:2'"):
        load({"FAIRVISOR_ENVOY_LISTEN": "a:1,b:2"})


@pytest.mark.parametrize("mode", ["reverse_proxy", "wrapper"])
def test_where_no_gateway_asks_neither_does_envoy(mode: str) -> None:
    environ = {
        "FAIRVISOR_MODE": mode,
        "FAIRVISOR_BACKEND_URL": "http://127.0.0.1:9000",
        "FAIRVISOR_ENVOY_LISTEN": "unix:/a",
    }
    with pytest.raises(SettingsError, match=f"FAIRVISOR_ENVOY_LISTEN: in mode {mode} no gateway"):
        load(environ)


def test_a_reverse_proxy_needs_a_backend() -> None:
    with pytest.raises(SettingsError, match="FAIRVISOR_BACKEND_URL"):
        load({"FAIRVISOR_MODE": "reverse_proxy"})


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "127.0.0.1:80",
        "http://",
        "http://x:99999",
        "http://x/?q=1",
        "unix:relative",
        "h p",
    ],
)
def test_an_upstream_that_is_no_url_is_named(url: str) -> None:
    for name in ("FAIRVISOR_BACKEND_URL", "FAIRVISOR_PROVIDER_GEMINI_COMPAT_URL"):
        with pytest.raises(SettingsError, match=name):
            load({name: url})


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"FAIRVISOR_BACKEND_URL": "http://user:hunter2@x"})
    assert "hunter2" not in str(caught.value)


def test_providers_are_where_the_vendor_or_the_operator_says() -> None:
    urls = load({"FAIRVISOR_PROVIDER_OPENAI_URL": "http://127.0.0.1:9/base/"}).provider_urls
    assert (urls["openai"].port, urls["openai"].base_path, urls["openai"].tls) == (
        9,
        "/base",
        False,
    )
    assert (urls["groq"].authority, urls["groq"].base_path) == ("api.groq.com", "/openai")
    assert (urls["groq"].port, urls["groq"].tls) == (443, True)


def test_prefixed_variables_are_settings() -> None:
    environ = {"FAIRVISOR_UPSTREAM_HEADER_X_Key": "k", "FAIRVISOR_PROVIDER_GROQ_URL": "http://x"}
    assert ignored({**environ, "FAIRVISOR_MODE": "wrapper"}) == []


@pytest.mark.parametrize(
    ("name", "mode", "needs"),
    [
        ("FAIRVISOR_BACKEND_URL", "", "FAIRVISOR_MODE=reverse_proxy"),
        ("FAIRVISOR_BACKEND_URL", "hybrid", "FAIRVISOR_MODE=reverse_proxy"),
        ("FAIRVISOR_BACKEND_URL", "reverse_proxy", ""),
        ("FAIRVISOR_WRAPPER_AUTH", "", "FAIRVISOR_MODE=wrapper or hybrid"),
        ("FAIRVISOR_WRAPPER_AUTH", "hybrid", ""),
        ("FAIRVISOR_PROVIDER_OPENAI_URL", "reverse_proxy", "FAIRVISOR_MODE=wrapper"),
        ("FAIRVISOR_UPSTREAM_TIMEOUT", "decision_service", "FAIRVISOR_MODE=reverse_proxy"),
        ("FAIRVISOR_UPSTREAM_HEADER_X_Key_FILE", "", "FAIRVISOR_MODE=reverse_proxy"),
        ("FAIRVISOR_UPSTREAM_HEADER_X_Key_FILE", "reverse_proxy", ""),
        ("FAIRVISOR_LLM_FORMAT", "", ""),
    ],
)
def test_what_changes_nothing_in_a_mode_is_told(name: str, mode: str, needs: str) -> None:
    lines = ignored({name: "x", "FAIRVISOR_MODE": mode})
    assert len(lines) == bool(needs)
    for line in lines:
        assert line.startswith(f"{name} is ignored in mode {mode or 'decision_service'}: it needs ")
        assert needs in line
