"""Draws figures as PNG and PDF."""
