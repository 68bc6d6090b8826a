"""Load on a running server, measured from the caller's side."""
