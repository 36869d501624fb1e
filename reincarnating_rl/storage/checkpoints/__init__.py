"""Whole checkpoints on a disk that may fill up, break off, or forget a bit.

`arrays` stores named arrays, `rows` the rows of a ring as they come, `vault`
makes numbered checkpoints of both, `background` writes them beside the work.
Not here: what is saved, and when.
"""
