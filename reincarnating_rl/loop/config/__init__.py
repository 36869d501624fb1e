"""Settings of a run, its phases, and what they will cost."""
