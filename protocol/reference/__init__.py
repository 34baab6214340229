"""The reference of the bundle and of the answers, as Markdown made from the code.

`python -m protocol.reference` prints it; `docs/reference.md` holds it. Fields, types, defaults and
bounds come from `protocol.schema`; the tables of `protocol.reference.answers` say what a request
can be answered.
"""

from protocol.reference.document import text

__all__ = ["text"]
