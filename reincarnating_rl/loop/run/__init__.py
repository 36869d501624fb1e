"""A run: its phases, one after the other."""
