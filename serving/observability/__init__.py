"""Metrics, gauges and logs."""
