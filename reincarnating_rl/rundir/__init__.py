"""A run's directory: writers and readers of the files in it."""
