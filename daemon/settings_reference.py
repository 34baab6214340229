"""The table of environment variables as Markdown, made from `daemon.settings.VARIABLES`.

`python -m daemon.settings_reference` prints it; `docs/settings.md` holds it.
"""

import sys

from daemon.settings import LOG_LEVELS, MODES, VARIABLES

_HEAD = """\
# Settings

The daemon reads its settings once, at start, from the environment. A wrong value, or a missing one
that is needed, ends it with one line that names the variable, and exit code 1.
This file is made from the code by `scripts/docs`; change it there. `fairvisor serve --help` prints
the same.

| Variable | Default | Meaning |
| --- | --- | --- |
"""


def text() -> str:
    """Return the whole file."""
    rows = [
        f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.meaning} |\n"
        for each in VARIABLES
    ]
    return _HEAD + "".join(rows) + _notes()


def _notes() -> str:
    return f"""
Sizes are bytes, or end in `k`, `m` or `g`; times may have fractions.
`FAIRVISOR_CONFIG_FILE` is required. Modes: {_words(MODES)}. Log levels: {_words(LOG_LEVELS)}.
"""


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    sys.stdout.write(text())
