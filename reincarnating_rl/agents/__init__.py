"""Agents as Dopamine and gin see them: thin shells around the core."""

from reincarnating_rl.dopamine_bridge import compat

# Before any module here imports Dopamine.
compat.prepare_dopamine()
