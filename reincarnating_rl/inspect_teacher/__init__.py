"""Describes a teacher: its files, network, score, and data."""
