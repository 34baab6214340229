"""The process shell: fronts and shards, kept alive, and the truth about the bundle."""
