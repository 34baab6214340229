"""The daemon: engine, fronts, supervisor and command line."""
