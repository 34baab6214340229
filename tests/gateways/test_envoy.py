"""What Envoy's page says beside the contract: balancers, descriptors, settlement."""

import json
import re
from typing import Any

import pytest

from tests.gateways.bundles import ADDRESS_LIMIT, CONTRACT, SLOW
from tests.gateways.gateways import SUBJECTS, Subject
from tests.gateways.site import CLIENT, Serve, Site, site

ENVOYS = [subject for subject in SUBJECTS if subject.gateway.folder == "envoy"]
LIMITING = [subject for subject in ENVOYS if subject.name == "envoy-ratelimit"]


def of(subjects: list[Subject]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("subject", subjects, ids=lambda each: each.name)


def behind_a_balancer(text: str) -> str:
    line = "use_remote_address: true\n"
    assert line in text
    return text.replace(line, f"{line}{' ' * 16}xff_num_trusted_hops: 1\n")


@of(ENVOYS)
def test_the_client_is_whom_the_balancer_names_and_the_service_settles(
    subject: Subject, serve: Serve, a_key: str
) -> None:
    trusted = f"127.0.0.1/32,{CLIENT}/32"
    with site(
        subject,
        subject.ways[0],
        serve,
        CONTRACT,
        edit=behind_a_balancer,
        trusted_proxies=trusted,
    ) as running:
        for client in ("198.51.100.1", "198.51.100.2"):
            said = {"X-Forwarded-For": f"203.0.113.9, {client}"}
            statuses = [running.ask("/addresses/x", said).status for _ in range(ADDRESS_LIMIT + 1)]
            assert statuses == [200] * ADDRESS_LIMIT + [429]
        settle_as_the_service(running, a_key)


def settle_as_the_service(running: Site, key: str) -> None:
    """Settle what a request has reserved, with the id that the service alone gets."""
    headers = {"X-Key": key, "Content-Type": "application/json"}
    forged = running.ask("/any/x", {**headers, "X-Fairvisor-Reservation": "mine"})
    assert forged.status == 200
    assert "x-fairvisor-reservation" not in running.service.seen[-1].headers
    body = json.dumps({"model": "m", "max_tokens": 9_000, "messages": []}).encode()
    answer = running.ask("/llm/x", headers, "POST", body)
    assert answer.status == 200
    assert "x-fairvisor-reservation" not in answer.headers
    reservation = running.service.seen[-1].headers["x-fairvisor-reservation"]
    used = {"prompt_tokens": 40, "completion_tokens": 60}
    settled = json.dumps({"reservation": reservation, "usage": used}).encode()
    with running.daemon.connect() as connection:
        assert connection.request("/v1/settle", method="POST", body=settled).status == 204
    assert running.ask("/llm/x", headers, "POST", body).status == 200


DESCRIPTORS = """\
rate_limits:
                        - actions:
                            - request_headers: {header_name: x-user, descriptor_key: user}
                        - actions:
                            - request_headers: {header_name: x-user, descriptor_key: user}
                            - request_headers: {header_name: x-plan, descriptor_key: plan}
                        - actions:
                            - generic_key: {descriptor_value: everything}
"""


def own_descriptors(text: str) -> str:
    """Put in what a team that runs another ratelimit service has."""
    with_domain = text.replace("domain: fairvisor\n", "domain: edge\n")
    headers = with_domain.replace(
        "failure_mode_deny: true\n",
        "failure_mode_deny: true\n" + " " * 22 + "enable_x_ratelimit_headers: DRAFT_VERSION_03\n",
    )
    return re.sub(r"rate_limits:\n(?: {24}.*\n)*", DESCRIPTORS, headers)


def shape(name: str, keys: list[str], burst: int, **rule: object) -> dict[str, Any]:
    config = {"tokens_per_second": SLOW, "burst": burst}
    limit = {"name": "r", "limit_keys": keys, "algorithm": "token_bucket", **rule}
    rules = [{**limit, "algorithm_config": config}]
    return {"id": name, "spec": {"selector": {"pathExact": f"/edge/{name}"}, "rules": rules}}


@of(LIMITING)
def test_descriptors_that_are_there_already_pick_policies_by_their_keys(
    subject: Subject, serve: Serve
) -> None:
    bundle = {
        "bundle_version": 1,
        "policies": [
            shape("user", ["header:user"], 4),
            shape("user/plan", ["header:user"], 2, match={"header:plan": "free"}),
            shape("generic_key", ["header:generic_key"], 1000),
        ],
    }
    with site(subject, subject.ways[0], serve, bundle, edit=own_descriptors) as running:
        before = int(running.ask("/x").headers["ratelimit-remaining"])
        free = {"X-User": "ann", "X-Plan": "free"}
        answers = [running.ask("/x", free) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
        assert answers[0].headers["ratelimit-policy"].startswith('"user/plan";q=2;')
        assert answers[0].headers["x-ratelimit-remaining"] == "1"
        # What was refused cost the counters of the other descriptors nothing.
        statuses = [running.ask("/x", {"X-User": "ann"}).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert running.ask("/x", {"X-User": "ben", "X-Plan": "paid"}).status == 200
        told = running.ask("/x").headers["ratelimit"]
        assert told.startswith(f'"generic_key";r={before - 6};')
