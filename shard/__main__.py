"""Start one shard process."""

from shard.server import main

main()
