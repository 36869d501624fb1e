"""Scores of runs as arrays, normalization, metrics, bootstrap intervals."""
