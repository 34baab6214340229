"""The limiters, one kind a file: pure functions (state, operation, now) -> (state, verdict)."""
