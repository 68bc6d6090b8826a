"""Bundles on disk: manifest, files, tokenizer."""
