"""LLM wire formats: requests, usage, streams, tokens and prices; bytes in, values out."""
