"""Models as modules that trace into an encoder graph and a one-step decoder graph."""
