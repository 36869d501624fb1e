"""Environments: vectorised Atari, and small probes with known values."""
