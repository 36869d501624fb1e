"""Runs side by side, and population-based training."""
