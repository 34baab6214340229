"""The pure engine: a request and a compiled bundle in, operations and a decision out. No I/O."""
