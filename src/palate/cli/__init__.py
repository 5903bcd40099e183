"""Floor 5: the command line. It parses, calls a room, and prints; nothing is computed here."""
