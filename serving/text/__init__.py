"""Text around the model: what it reads of a text, and how translations become a text again. It knows no model."""
