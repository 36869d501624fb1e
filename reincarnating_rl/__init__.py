"""Start deep RL agents from what an earlier agent left.

Nothing is imported eagerly: `reincarnating_rl.learner` and the other modules
are imported by whoever needs them.
"""

__version__ = '0.1.0'
