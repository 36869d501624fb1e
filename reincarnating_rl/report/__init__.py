"""Makes figures, tables and numbers of runs, fit for a paper."""
