"""The vocabulary that fronts, shards and gateways must agree on: values and pure functions only."""
