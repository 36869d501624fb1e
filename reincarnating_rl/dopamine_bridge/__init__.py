"""Everything between this package and Dopamine or gin."""
