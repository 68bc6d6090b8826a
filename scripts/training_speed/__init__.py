"""Training, timed beside another trainer."""
