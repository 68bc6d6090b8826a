"""The engine, offline, beside its rivals."""
