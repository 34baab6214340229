"""Counters on disk (behaviour §13.5): a log per shard, folded into one embedded database."""
