"""The table of environment variables as Markdown, made from `daemon.settings.VARIABLES`.

`python -m daemon.settings_reference` prints it; `docs/settings.md` holds it.
"""

import sys

from daemon.settings import LOG_LEVELS, MAX_SECRET_BYTES, MODES, VARIABLES

_SECRETS = tuple(each.name for each in VARIABLES if each.secret)
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
What is set and not used, in the chosen mode or at all, is named by a warning at start.

## Secrets

Secrets are {_words(_SECRETS)} and every
`FAIRVISOR_UPSTREAM_HEADER_<Name>`. Each has three places, of which one may be used:

| Place | How |
| --- | --- |
| a file | `<variable>_FILE=/path`, as in `FAIRVISOR_UPSTREAM_HEADER_Authorization_FILE` |
| a [systemd credential](install.md#secrets) | a credential with the variable's name |
| the variable itself | the supervisor's user and root can read it in `/proc/PID/environ` |

A file holds one line of UTF-8 text of at most {MAX_SECRET_BYTES >> 10} KiB; line ends behind it do
not count. One that cannot be read, is empty or larger, or a secret in two places, ends the start.
Files are read once, at start: to change a secret, write the file and restart; a reload of the
bundle does not read them again. Secrets are never on a command line, and only fronts are told them,
on a socket from the supervisor: no child process has them in its environment. `_FILE` in capitals
at the end of a name always means a file: a header called `X-File` is
`FAIRVISOR_UPSTREAM_HEADER_X_File`.
"""


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    sys.stdout.write(text())
