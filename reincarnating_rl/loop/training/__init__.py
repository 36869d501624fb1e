"""Training: which update is due when, and what makes it."""
