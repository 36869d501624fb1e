"""Runs as data: phases, the loop over them, records and checkpoints."""
