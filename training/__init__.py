"""Training of translation models: parallel text in, a self-contained checkpoint out."""
