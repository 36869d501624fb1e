"""Readers of teachers' files, one module per format."""
