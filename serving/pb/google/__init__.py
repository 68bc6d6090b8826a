"""Generated messages and stubs of Google Cloud Translation's API, as far as this server speaks it."""
