"""The counters and their owner: one single-threaded process per shard."""
