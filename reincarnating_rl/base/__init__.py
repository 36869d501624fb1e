"""Modules that every layer shares: types, schedules, scores, files, errors."""
