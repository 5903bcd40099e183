"""Floor 2: doubting what people said. Start reading at `check.py`."""
