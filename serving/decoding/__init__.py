"""Search in plain NumPy, without model or clock."""
