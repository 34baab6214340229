"""The proxy modes (behaviour §10): a request in, decided, passed on, its answer metered."""
