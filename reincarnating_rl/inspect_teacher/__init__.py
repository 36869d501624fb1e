"""Tells what a teacher is: its files, network, score, and data."""
