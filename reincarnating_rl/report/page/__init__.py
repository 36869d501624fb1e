"""Writes the page, the tables and the JSON document of a report."""
