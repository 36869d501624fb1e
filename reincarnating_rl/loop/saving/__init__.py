"""Checkpoints of runs, and the supervision of a running one."""
