"""Cloudflare: a Worker and its configuration."""
