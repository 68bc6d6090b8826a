"""Continuous batching: who runs next, and the loop that runs it."""
