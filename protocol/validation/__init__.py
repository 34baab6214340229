"""From decoded JSON to a bundle, listing every problem with its place (§2.5).

`document` is the entrance; below it each module reads one table of the behaviour, through
`fields`. A module therefore reads like its table: field, type, range, default.
"""

from protocol.validation.document import validate
from protocol.validation.report import Report

__all__ = ["Report", "validate"]
