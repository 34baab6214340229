"""`fairvisor init` (§16)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from daemon.settings import VARIABLES, load
from protocol.bundle import LlmBudget, TokenBucket
from protocol.bundle_text import load as load_bundle


@pytest.mark.parametrize("template", ["api", "llm", "webhook"])
def test_every_template_is_valid_and_its_rule_really_applies(
    fairvisor: Callable[..., Result], template: str
) -> None:
    result = fairvisor("init", f"--template={template}")
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "Created policy.json and edge.env.example\n",
        "",
    )
    checked = fairvisor("validate", "--strict", "policy.json", "--format=json")
    assert json.loads(checked.stdout)["errors"] == []
    played = json.loads(fairvisor("test", "--format=json").stdout)
    assert [item["policy_id"] for item in played["results"]] == [template]
    assert played["by_rule"][0]["requests"] == 1
    assert "RateLimit-Limit" in played["results"][0]["headers"]


def test_the_templates_hold_the_figures_of_the_specification(
    fairvisor: Callable[..., Result],
) -> None:
    found = {}
    for template in ("api", "llm", "webhook"):
        fairvisor("init", "--force", f"--template={template}")
        bundle = load_bundle(Path("policy.json").read_bytes(), now=0).bundle
        assert bundle is not None
        (policy,) = bundle.policies
        (rule,) = policy.rules
        found[template] = (policy.selector, rule.limit_keys, rule.algorithm)
    selector, keys, algorithm = found["api"]
    assert (selector.path_prefix, keys) == ("/", ("header:x-api-key",))
    assert selector.methods == frozenset({"GET", "POST", "PUT", "DELETE"})
    assert isinstance(algorithm, TokenBucket)
    assert (float(algorithm.rate), algorithm.burst) == (100.0, 200_000_000)
    selector, keys, algorithm = found["llm"]
    assert (selector.path_exact, selector.methods) == ("/v1/chat/completions", frozenset({"POST"}))
    assert keys == ("jwt:org_id",)
    assert isinstance(algorithm, LlmBudget)
    assert algorithm.tokens_per_minute == algorithm.burst_tokens == 120_000_000_000
    assert algorithm.tokens_per_day == 2_000_000_000_000
    assert algorithm.default_max_completion == 1024
    selector, keys, algorithm = found["webhook"]
    assert (selector.path_prefix, selector.methods, keys) == (
        "/webhooks/",
        frozenset({"POST"}),
        ("ip:address",),
    )
    assert isinstance(algorithm, TokenBucket)
    assert (float(algorithm.rate), algorithm.burst) == (10.0, 50_000_000)


@pytest.mark.parametrize("name", ["policy.json", "edge.env.example"])
def test_nothing_is_overwritten_without_force(fairvisor: Callable[..., Result], name: str) -> None:
    Path(name).write_text("mine")
    result = fairvisor("init")
    assert (result.exit_code, result.stdout) == (1, "")
    assert name in result.stderr
    assert [each.name for each in Path().iterdir()] == [name]
    assert Path(name).read_text() == "mine"
    assert fairvisor("init", "--force").exit_code == 0
    assert Path(name).read_text() != "mine"


def test_a_dangling_link_is_somebodys_file_too(fairvisor: Callable[..., Result]) -> None:
    Path("policy.json").symlink_to("nowhere")
    assert fairvisor("init").exit_code == 1


def test_a_folder_in_the_way_is_named(fairvisor: Callable[..., Result]) -> None:
    Path("policy.json").mkdir()
    result = fairvisor("init", "--force")
    assert result.exit_code == 1
    assert "policy.json: cannot be written: Is a directory" in result.stderr


def test_the_settings_file_lists_every_variable_and_loads(fairvisor: Callable[..., Result]) -> None:
    fairvisor("init")
    lines = Path("edge.env.example").read_text().splitlines()
    given = dict(line.removeprefix("#").partition("=")[::2] for line in lines if "=" in line)
    assert [each.name for each in VARIABLES if each.name not in given] == []
    active = [line for line in lines if line and not line.startswith("#")]
    assert active == ["FAIRVISOR_CONFIG_FILE=policy.json"]
    with_all = {each.name: given[each.name] for each in VARIABLES}
    assert load(with_all).config_file == "policy.json"
