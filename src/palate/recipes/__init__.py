"""Floor 4: runs and conversions that have names."""
