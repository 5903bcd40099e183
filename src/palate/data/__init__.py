"""Floor 1: what people said. Start reading at `comparison.py`."""
