"""Files of ``dragoman-translate``: what of each format is text, and the same file around its translation."""
