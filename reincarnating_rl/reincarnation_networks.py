"""Alias of `dopamine_bridge.networks`, the name in users' gin files."""

from reincarnating_rl.dopamine_bridge.networks import *  # noqa: F403
