"""Finds runs, reads them, groups them by method, refuses bad comparisons."""
