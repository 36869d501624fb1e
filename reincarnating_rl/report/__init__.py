"""Makes figures, tables and numbers out of runs, ready for a paper.

`reading` finds runs and groups them by method, `statistics` computes every
number once, `figures` draws the numbers, `page` writes HTML, CSV and JSON.
Each package imports those before it.
"""
