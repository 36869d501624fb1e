"""Evaluates a checkpoint over whole episodes, and films it.

`evaluation` does both. `subject` loads the checkpoint; `scoring` plays episodes
and computes intervals; `video` plays one episode for a film, `panel` and
`plots` draw its pictures, `writers` encode them.
"""
