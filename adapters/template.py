"""Fill in a gateway's configuration template. Pure.

`@name@` stands for a value. A line that begins with `@if word@` stays, without that mark, only if
the word holds: which way the daemon is reached, what happens when it is down.
"""

import re
from collections.abc import Collection, Mapping

_IF = re.compile(r"^(?P<blanks>[ \t]*)@if (?P<word>[a-z-]+)@ ?")
_VALUE = re.compile(r"@(?P<name>[a-z_]+)@")


def fill(template: str, values: Mapping[str, str], words: Collection[str]) -> str:
    """Return the text of a configuration.

    Raises:
        KeyError: the template asks for a value that there is none of.
    """
    kept = []
    for line in template.splitlines(keepends=True):
        condition = _IF.match(line)
        if condition is None:
            kept.append(line)
        elif condition["word"] in words:
            kept.append(condition["blanks"] + line[condition.end() :])
    return _VALUE.sub(lambda found: values[found["name"]], "".join(kept))
