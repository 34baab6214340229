import json
import time

import pytest

from bench.__main__ import parser
from bench.scenarios import SCENARIOS, Variant
from protocol.validation.document import validate

VARIANTS = [variant for scenario in SCENARIOS.values() for variant in scenario.variants]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)
def test_a_benchmark_measures_a_bundle_that_loads(variant: Variant) -> None:
    report = validate(json.loads(json.dumps(variant.bundle)), now=time.time(), strict=True)
    assert (report.errors, report.warnings) == ((), ())


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)
def test_a_benchmark_can_tell_whether_its_bundle_decides(variant: Variant) -> None:
    assert variant.refusals


def test_an_unknown_scenario_is_told_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["decisions", "nosuch"])
    assert ended.value.code == 2
    assert "'nosuch' is none of decisions, complex," in capsys.readouterr().err
    assert parser().parse_args([]).scenario == ["decisions"]
