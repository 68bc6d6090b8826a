"""HTML and XML around the text in them: tags leave before translation and come back with the words they cover."""
