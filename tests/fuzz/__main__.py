"""Fuzz one target with Atheris: `python -m tests.fuzz bundle [libFuzzer options] [corpus folders]`.

Targets are the modules `fuzz_*` beside this file; each has a function `one_input(bytes)` that
raises if something is wrong. Without a folder the target's own corpus is read, and not added to.
Libfuzzer's options bound a run: `-max_total_time=60`, `-runs=100000`.
"""

import sys
from importlib import import_module
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Fuzz until told to stop, or until something is wrong."""
    program, name, *options = sys.argv
    with atheris.instrument_imports(include=["protocol", "shard", "daemon"]):
        target = import_module(f"tests.fuzz.fuzz_{name}")
    if all(option.startswith("-") for option in options):
        # A run of its own must not write into the seeds: they are read through -seed_inputs.
        options.append("-seed_inputs=" + ",".join(sorted(map(str, (CORPUS / name).iterdir()))))
    atheris.Setup([program, *options], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
