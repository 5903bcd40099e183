"""Floor 0: the words and the arithmetic everything else is written in."""
