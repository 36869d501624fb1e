"""Start deep RL agents from what an earlier agent left.

  import reincarnating_rl as rrl
  run = rrl.reincarnate('/tmp/pong', teacher='bundled:Pong', ...)

Nothing is imported eagerly: `reincarnating_rl.learner` and the other modules
are imported by whoever needs them.
"""

_INTERFACE = ('reincarnate', 'Result')


def __getattr__(name: str) -> object:
  """The Python interface, imported when it is first asked for."""
  if name in _INTERFACE:
    from reincarnating_rl.app import api

    return getattr(api, name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__version__ = '0.1.0'
