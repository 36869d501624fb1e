"""Readers of what teachers left, one module a format."""
