"""Verified checkpoints that survive kills, full disks and damaged files.

`arrays` stores named arrays, `row_segments` the rows of a replay ring as they
come, `checkpoint_store` numbered checkpoints of both; `background` writes them
in a thread. Not here: what a run saves, and when (`loop.saving`).
"""
