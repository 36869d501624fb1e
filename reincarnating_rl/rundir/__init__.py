"""A run's directory: the files that runs write there, and their reader."""
