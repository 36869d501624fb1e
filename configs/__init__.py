"""Shipped configurations; installed as reincarnating_rl.configs."""
