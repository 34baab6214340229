"""HAProxy: the Lua action that asks, and the configuration that runs it."""
