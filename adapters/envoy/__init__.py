"""Envoy: the configuration of HTTP `ext_authz` that it loads."""
