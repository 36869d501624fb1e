"""Agents as Dopamine and gin see them: thin shells around the core."""
