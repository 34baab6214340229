"""The admin socket: what an operator on this host may ask of the daemon (behaviour §17)."""
