"""`fairvisor gateway`: addresses, delays and mistakes."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from adapters.catalogue import GATEWAYS, Gateway
from daemon.cli.gateway_bundle import longest_delay
from protocol.bundle_text import load

Run = Callable[..., Result]
ROOT = Path(__file__).parents[3]
REQUIRED = {
    "required": True,
    "keys": [{"id": "k", "algorithm": "HS256", "secret": "a secret that is long enough for HS256"}],
}


def stages(*delays: float) -> dict[str, object]:
    staged = [
        {"threshold_percent": 10 + number, "action": "throttle", "delay_ms": delay}
        for number, delay in enumerate(delays)
    ]
    config = {
        "budget": 10,
        "period": "1d",
        "staged_actions": [*staged, {"threshold_percent": 100, "action": "reject"}],
    }
    return {
        "name": f"r{len(delays)}",
        "limit_keys": ["ip:address"],
        "algorithm": "cost_based",
        "algorithm_config": config,
    }


def bundle(*rules: dict[str, object], **spec: object) -> str:
    whole = {"selector": {"pathPrefix": "/"}, "rules": list(rules), **spec}
    return json.dumps({"bundle_version": 1, "policies": [{"id": "p", "spec": whole}]})


def test_without_a_name_it_lists_all(fairvisor: Run) -> None:
    result = fairvisor("gateway")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [g.name for g in GATEWAYS]


@pytest.mark.parametrize(
    ("listen", "server"),
    [
        ("", "127.0.0.1:8080"),
        ("0.0.0.0:9090", "127.0.0.1:9090"),
        ("[::]:9090", "[::1]:9090"),
        ("10.0.0.5:9090,10.0.0.6:9090", "10.0.0.5:9090"),
        ("127.0.0.1:9090,unix:/run/fv.sock", "unix:/run/fv.sock"),
    ],
)
def test_the_daemon_is_where_its_settings_say(fairvisor: Run, listen: str, server: str) -> None:
    result = fairvisor("gateway", "nginx", FAIRVISOR_LISTEN=listen)
    assert f"server {server} max_fails=0;" in result.stdout


def test_options_go_where_they_belong(fairvisor: Run) -> None:
    text = fairvisor(
        "gateway",
        "nginx",
        "--daemon=unix:/run/other.sock",
        "--listen=[::]:80",
        "--upstream=http://backend.test:81/",
        "--timeout=250",
        "--longest-delay=1000",
    ).stdout
    for line in (
        "server unix:/run/other.sock max_fails=0;",
        "listen [::]:80;",
        "proxy_pass http://backend.test:81;",
        "proxy_connect_timeout 250ms;",
        "proxy_read_timeout    1250ms;",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ngnix"], "no gateway 'ngnix'; did you mean 'nginx'? `fairvisor gateway` lists them"),
        (["nothing-like-it"], "no gateway 'nothing-like-it'; `fairvisor gateway` lists them"),
        (["nginx", "--on-failure=maybe"], "nginx can only be closed or open or reads-open"),
        (["nginx", "--listen=8000"], "'8000' is not host:port"),
        (["nginx", "--listen=unix:/a"], "must be host:port"),
        (["nginx", "--daemon=nowhere"], "'nowhere' is not host:port"),
        (["nginx", "--daemon=127.0.0.1:1,127.0.0.1:2"], "one address"),
        (["nginx", "--daemon=127.0.0.1:0"], "port 0"),
        (["nginx", "--listen=127.0.0.1:0"], "port 0"),
        (["nginx", "--upstream=https://a"], "must be http://host:port"),
        (["nginx", "--upstream=http://a/b"], "must be http://host:port"),
        (["nginx", "--upstream=a"], "must be http://host"),
        (["nginx", "--upstream=http://a;b"], "characters"),
        (["nginx", "--daemon=unix:/a;b"], "characters"),
        (["nginx", "--daemon=https://a.test"], "is not host:port"),
        (["aws", "--daemon=https://a.test/x"], "a URL without a path"),
        (["aws", "--daemon=ftp://a.test"], "must be http://host"),
        (["aws", '--daemon=https://a"b'], "characters"),
        (["aws", "--daemon=unix:/run/fv.sock"], "cannot ask over a Unix socket"),
        (["nginx", "--timeout=0"], "0 is not in the range"),
        (["nginx", "--longest-delay=30001"], "30001 is not in the range"),
    ],
)
def test_a_mistake_is_named(fairvisor: Run, arguments: list[str], message: str) -> None:
    result = fairvisor("gateway", *arguments)
    assert result.exit_code == 3
    assert message in result.stderr
    assert result.stdout == ""


def test_an_address_that_cannot_be_told_is_a_failure(fairvisor: Run) -> None:
    result = fairvisor("gateway", "nginx", FAIRVISOR_LISTEN="127.0.0.1:0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "FAIRVISOR_LISTEN" in result.stderr
    wrong = fairvisor("gateway", "nginx", FAIRVISOR_LISTEN="nowhere")
    assert wrong.exit_code == 1
    assert "FAIRVISOR_LISTEN: 'nowhere'" in wrong.stderr


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        (bundle(), 0),
        (bundle(stages(250, 1000.5), stages(300)), 1001),
        (bundle(stages(90_000)), 30_000),
        (
            bundle(
                loop_detection={
                    "enabled": True,
                    "window_seconds": 10,
                    "threshold_identical_requests": 3,
                    "action": "throttle",
                }
            ),
            30_000,
        ),
    ],
)
def test_the_bundle_says_how_long_a_request_may_be_held_back(
    fairvisor: Run, tmp_path: Path, text: str, delay: int
) -> None:
    loaded = load(text.encode(), now=0.0).bundle
    assert loaded is not None
    assert longest_delay(loaded) == delay
    (tmp_path / "policy.json").write_text(text)
    printed = fairvisor("gateway", "nginx", FAIRVISOR_CONFIG_FILE="policy.json").stdout
    assert f"proxy_read_timeout    {500 + delay}ms;" in printed


def test_a_bundle_that_cannot_be_read_is_a_failure(fairvisor: Run, tmp_path: Path) -> None:
    missing = fairvisor("gateway", "nginx", FAIRVISOR_CONFIG_FILE="nothing.json")
    assert missing.exit_code == 1
    assert "nothing.json: cannot be read" in missing.stderr
    (tmp_path / "policy.json").write_text("{}")
    invalid = fairvisor("gateway", "nginx", FAIRVISOR_CONFIG_FILE="policy.json")
    assert invalid.exit_code == 1
    assert "policy.json: not a valid bundle" in invalid.stderr
    asked = "--longest-delay=0"
    assert fairvisor("gateway", "nginx", asked, FAIRVISOR_CONFIG_FILE="policy.json").exit_code == 0


def test_grpc_is_asked_where_envoy_may_ask(fairvisor: Run) -> None:
    for name in ("envoy-grpc", "envoy-ratelimit"):
        unset = fairvisor("gateway", name, FAIRVISOR_LISTEN="unix:/run/fv.sock")
        assert (unset.exit_code, unset.stdout) == (1, "")
        assert "FAIRVISOR_ENVOY_LISTEN is not set" in unset.stderr
        text = fairvisor("gateway", name, FAIRVISOR_ENVOY_LISTEN="unix:/run/envoy.sock").stdout
        assert 'pipe: {path: "/run/envoy.sock"}' in text
        text = fairvisor("gateway", name, FAIRVISOR_ENVOY_LISTEN="0.0.0.0:8081").stdout
        assert 'socket_address: {address: "127.0.0.1", port_value: 8081}' in text
        chosen = fairvisor("gateway", name, FAIRVISOR_ENVOY_LISTEN="127.0.0.1:0")
        assert chosen.exit_code == 1
        assert "FAIRVISOR_ENVOY_LISTEN names no address" in chosen.stderr


def test_envoy_sends_as_much_of_a_body_as_the_daemon_reads(fairvisor: Run) -> None:
    settings = {"FAIRVISOR_ENVOY_LISTEN": "unix:/a", "FAIRVISOR_MAX_BODY_BYTES": "64k"}
    for name in ("envoy", "envoy-grpc"):
        assert "max_request_bytes: 65536\n" in fairvisor("gateway", name, **settings).stdout


@pytest.mark.parametrize(
    ("document", "names"),
    [
        (None, ["authorization", "user-agent", "x-api-key"]),
        (bundle(), []),
        (bundle(stages(100)), []),
        (
            bundle(
                {
                    **stages(100),
                    "limit_keys": ["header:X_Key", "jwt:sub", "query:a", "ip:country"],
                    "match": {"ua:bot": "true", "header:x-plan": "free"},
                }
            ),
            ["authorization", "user-agent", "x-key", "x-plan"],
        ),
        (
            bundle(
                fallback_limit={
                    "limit_keys": ["header:b"],
                    "algorithm": "token_bucket",
                    "algorithm_config": {
                        "tokens_per_second": 1,
                        "burst": 1,
                        "cost_source": "header:x-cost",
                    },
                }
            ),
            ["b", "x-cost"],
        ),
        (
            json.dumps(
                {
                    "bundle_version": 1,
                    "policies": [],
                    "kill_switches": [{"scope_key": "header:x-app", "scope_value": "a"}],
                }
            ),
            ["x-app"],
        ),
        (json.dumps({"bundle_version": 1, "policies": [], "jwt": REQUIRED}), ["authorization"]),
    ],
)
def test_a_descriptor_has_an_entry_for_each_header_that_counts(
    fairvisor: Run, tmp_path: Path, document: str | None, names: list[str]
) -> None:
    settings = {"FAIRVISOR_ENVOY_LISTEN": "unix:/a"}
    if document is not None:
        (tmp_path / "policy.json").write_text(document)
        settings["FAIRVISOR_CONFIG_FILE"] = "policy.json"
    result = fairvisor("gateway", "envoy-ratelimit", **settings)
    assert result.exit_code == 0, result.stderr
    entry = re.compile(
        r'^ {28}- request_headers: \{header_name: "([^"]*)", .*skip_if', re.MULTILINE
    )
    assert entry.findall(result.stdout) == names


def test_it_writes_all_files(fairvisor: Run, tmp_path: Path) -> None:
    printed = fairvisor("gateway", "nginx").stdout
    result = fairvisor("gateway", "nginx", "--write=etc/nginx")
    assert result.stdout == "Wrote etc/nginx/nginx.conf\n"
    assert (tmp_path / "etc/nginx/nginx.conf").read_text() == printed
    (tmp_path / "file").write_text("")
    failed = fairvisor("gateway", "nginx", "--write=file")
    assert failed.exit_code == 1
    assert "file/nginx.conf: cannot be written" in failed.stderr


def test_clouds_ask_at_a_url(fairvisor: Run) -> None:
    for name in ("cloudflare", "aws", "gcp", "azure"):
        text = fairvisor("gateway", name, "--daemon=https://fairvisor.test:8443/").stdout
        assert "https://fairvisor.test:8443" in text
        assert "8443/" not in text.replace("8443/v1/decision", "")
        assert (
            "http://10.0.0.5:9090"
            in fairvisor("gateway", name, FAIRVISOR_LISTEN="10.0.0.5:9090,unix:/run/fv.sock").stdout
        )


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda each: each.name)
def test_every_gateway_can_be_written_with_every_policy(
    fairvisor: Run, tmp_path: Path, gateway: Gateway
) -> None:
    seen = set()
    for way in gateway.on_failure:
        result = fairvisor(
            "gateway",
            gateway.name,
            f"--on-failure={way}",
            f"--write={way}",
            FAIRVISOR_ENVOY_LISTEN="127.0.0.1:8081",
        )
        assert result.exit_code == 0, result.stderr
        for name in (gateway.template, *gateway.companions):
            assert f"Wrote {way}/{name}\n" in result.stdout
            assert (tmp_path / way / name).read_text()
        seen.add((tmp_path / way / gateway.template).read_text().replace(f"/{way}/", "/"))
    assert len(seen) == len(gateway.on_failure)
