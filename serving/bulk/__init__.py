"""Translation of whole files on a Ray cluster, without a server: each worker runs the engine in its own process."""
