"""Traefik: the configuration of `forwardAuth` that it loads."""
