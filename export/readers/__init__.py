"""Models of other toolkits, read into the project's own Transformer."""
