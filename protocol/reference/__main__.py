"""Print the reference: `python -m protocol.reference > docs/reference.md`."""

import sys

from protocol.reference import text

if __name__ == "__main__":
    sys.stdout.write(text())
