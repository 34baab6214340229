"""A front process: all network I/O with the world, no counters."""
