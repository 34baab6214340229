"""Requests in simulated time: the file they come from, the daemon in a box, what came out (§16.1).

`entries` reads a requests file, `simulation` decides it with the daemon's own engine and shard
code, `results` and `figures` say what happened. No socket, process or clock: times are passed in.
"""

from daemon.replay.simulation import DEFAULT_SHARDS, Replay, Settled, request_of, settled

__all__ = ["DEFAULT_SHARDS", "Replay", "Settled", "request_of", "settled"]
