"""Envoy over gRPC: the same decisions behind another door. Needs the extra `fairvisor[envoy]`."""
