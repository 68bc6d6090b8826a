"""Metrics, gauges and logs of the server."""
