"""Print the schema: `python -m protocol.schema > docs/schema/bundle.schema.json`."""

import sys

from protocol.schema import text

if __name__ == "__main__":
    sys.stdout.write(text())
