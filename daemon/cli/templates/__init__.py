"""First policies for `fairvisor init` (§16), as files."""
