"""Experiments, and the Python interface that carries them out."""
