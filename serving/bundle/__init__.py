"""What is on disk: manifest, files, tokenizer."""
