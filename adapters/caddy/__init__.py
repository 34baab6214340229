"""Caddy: the configuration that it loads."""
