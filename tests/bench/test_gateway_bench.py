"""The gateways' figures, and that each can be had without its check."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters import catalogue
from bench.gateway_programs import GATEWAYS, Gateway
from bench.gateways import Pair, medians, table
from bench.load import Sample
from daemon.cli.main import main

CHECKS = {
    "nginx": "auth_request /_fairvisor",
    "nginx-lua": "access_by_lua",
    "kong": "name: fairvisor",
    "caddy": "\timport fairvisor\n",
    "envoy": "filters.http.ext_authz",
    "envoy-grpc": "filters.http.ext_authz",
    "envoy-ratelimit": "filters.http.ratelimit",
    "haproxy": "http-request lua.fairvisor",
    "traefik": "middlewares: [fairvisor]",
}
FORWARDS = {
    "nginx": "proxy_pass http://127.0.0.1:9000;",
    "nginx-lua": "proxy_pass http://127.0.0.1:9000;",
    "kong": "url: http://127.0.0.1:9000",
    "caddy": "invoke service",
    "haproxy": "default_backend service",
    "traefik": "service: service",
}
ENVOY = "route: {cluster: service, timeout: 0s}"
TESTED = {gateway.name for gateway in catalogue.GATEWAYS if not gateway.remote}


def sample(p50: float, p99: float, rate: float) -> Sample:
    return Sample(1000, 4, rate, p50, p99, 1e6 / rate)


PAIR = Pair(
    "nginx",
    16,
    (sample(50, 100, 900), sample(60, 110, 1000), sample(500, 999, 100)),
    (sample(90, 210, 500), sample(95, 190, 450), sample(80, 900, 600)),
)


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda each: each.name)
@pytest.mark.parametrize("failure", ["closed", "open"])
def test_the_check_and_nothing_else_is_taken_out(
    gateway: Gateway, failure: str, tmp_path: Path
) -> None:
    options = [f"--on-failure={failure}", f"--write={tmp_path}", "--daemon=127.0.0.1:8080"]
    assert CliRunner().invoke(main, ["gateway", gateway.name, *options]).exit_code == 0
    text = (tmp_path / gateway.template).read_text()
    bare = gateway.unchecked(text)
    assert CHECKS[gateway.name] in text
    assert CHECKS[gateway.name] not in bare
    assert bare.count("{") == bare.count("}")
    assert FORWARDS.get(gateway.name, ENVOY) in bare
    assert bare.count("location") == text.count("location")


def test_every_gateway_that_runs_here_is_measured() -> None:
    assert {gateway.name for gateway in GATEWAYS} == TESTED


def test_a_row_is_the_medians_and_what_lies_between() -> None:
    row = medians(PAIR)
    assert (row["p50 without"], row["p50 checked"], row["p50 added"]) == (60, 90, 30)
    assert (row["p99 without"], row["p99 checked"], row["p99 added"]) == (110, 210, 100)
    assert (row["rate without"], row["rate checked"]) == (900, 500)


def test_the_table_has_a_row_a_pair() -> None:
    head, row = table([PAIR]).splitlines()
    assert head.split()[:2] == ["gateway", "conns"]
    figures = "60 90 30 110 210 100 900 500 1,111 2,000 889"
    assert row.split() == ["nginx", "16", *figures.split()]
