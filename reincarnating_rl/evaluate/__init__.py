"""Evaluates a checkpoint over whole episodes, and films it.

`scoring` plays and says what a mean is worth; `subject` finds what is to be
evaluated; `video` plays one episode beside its screen, `panel` and `plots` draw
what the networks think of it, `writers` make files of that.
"""
