"""Gateways: per gateway one dialect, and the configuration or plugin that the gateway loads."""
