from daemon.supervisor.metrics import FAMILIES, PREFIX, Totals, render


def snapshot(*gauges: list[object]) -> list[object]:
    return [[["decisions_total", ["allow", "r", "p", "/"], 2]], [], list(gauges)]


def test_every_family_is_there_from_the_start() -> None:
    text = render(Totals()).decode()
    for family in FAMILIES:
        assert f"# HELP {PREFIX}{family.name} " in text
        assert f"# TYPE {PREFIX}{family.name} {family.kind}" in text
    assert "# TYPE fairvisor_decision_duration_seconds histogram" in text


def test_counters_add_up() -> None:
    totals = Totals()
    totals.add(snapshot())
    totals.add(snapshot())
    line = 'fairvisor_decisions_total{action="allow",policy="p",reason="r",route="/"} 4.0'
    assert line in render(totals).decode()


def test_the_newest_gauge_wins_and_of_equally_new_ones_the_smallest() -> None:
    label = ["60", "p", "/"]
    for order in (1, -1):
        totals = Totals()
        reports = [(9, 100), (5, 200), (7, 200)]
        for value, changed in reports[::order]:
            totals.add(snapshot(["ratelimit_remaining", label, value, changed]))
        line = 'fairvisor_ratelimit_remaining{policy="p",route="/",window="60"} 5.0'
        assert line in render(totals).decode()


def test_of_several_causes_with_one_label_the_largest_shows() -> None:
    totals = Totals()
    for value in (0, 1, 0):
        totals.raise_to("kill_switch_active", value, ("jwt:org=o",))
    assert 'fairvisor_kill_switch_active{scope="jwt:org=o"} 1.0' in render(totals).decode()


def test_labels_are_escaped() -> None:
    totals = Totals()
    totals.set("descriptor_missing_total", 1, ('a"b\\c\nd',))
    assert 'fairvisor_descriptor_missing_total{key="a\\"b\\\\c\\nd"} 1.0' in render(totals).decode()
