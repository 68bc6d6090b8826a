"""Search: pure NumPy, no model, no clock."""
