"""The process shell: starts fronts and shards, keeps them alive, holds the truth about the bundle."""
