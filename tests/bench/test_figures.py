import pytest

from bench import report
from bench.load import LoadError, Run, Sample, read_sample
from bench.measure import Row

RUN = Run(seconds=2, connections=4, first=0)


def line(**changed: float) -> str:
    figures = {
        "requests": 1000,
        "seconds": 2.0,
        "p50_us": 70,
        "p99_us": 400,
        "refused": 0,
        "failed": 0,
    }
    text = ",".join(f'"{name}":{value}' for name, value in (figures | changed).items())
    return f"Running 2s test\n\nBENCH {{{text}}}\n"


def row(server: str, *cpu_us: float) -> Row:
    samples = (Sample(1000, 4, 500.0, 70.0, 400.0, each) for each in cpu_us)
    return Row("1 bucket", server, 16, tuple(samples))


def test_reads_the_figures_of_a_run() -> None:
    sample = read_sample("nginx", line(), RUN, cpu_seconds=0.01)
    assert sample == Sample(1000, 4, 500.0, 70, 400, 10.0)


@pytest.mark.parametrize("fault", [{"requests": 0}, {"refused": 1}, {"failed": 1}])
def test_a_run_in_which_any_request_was_not_allowed_has_no_figures(fault: dict[str, int]) -> None:
    with pytest.raises(LoadError, match="not every request was allowed"):
        read_sample("nginx", line(**fault), RUN, cpu_seconds=0.01)


def test_the_ratio_compares_medians_under_the_same_load() -> None:
    rows = [row("nginx", 5.0, 100.0, 6.0), row("fairvisor", 12.0, 9.0, 15.0)]
    assert report.ratio(rows[1], rows) == 2.0
    assert report.spread(rows[1]) == 0.5


def test_the_table_has_a_line_for_each_row() -> None:
    rows = [row("nginx", 5.0), row("fairvisor", 10.0)]
    lines = report.table(rows).splitlines()
    assert [text.split()[-2:] for text in lines[1:]] == [["1.00", "0%"], ["2.00", "0%"]]
