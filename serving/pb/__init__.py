"""Generated from protos/ by scripts/stubs; never edited by hand."""
