"""The shape of a bundle as JSON Schema (draft 2020-12), for editors and other tools.

`python -m protocol.schema` prints it; `docs/schema/bundle.schema.json` holds it. The words and
bounds come from where validation has them. The schema is the lenient one of the two: whatever it
refuses, `validate` refuses, but not the other way round (it cannot compare fields, judge expiry
or find duplicates). Unknown keys pass, as they do in validation without `strict`.

Each object has its `properties` with descriptions first; what depends on another field (a block
that is on, an algorithm, an action) follows under `allOf`.
"""

from protocol.schema.document import bundle_schema, text

__all__ = ["bundle_schema", "text"]
