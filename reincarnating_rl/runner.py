"""Alias of `runners.runner`, the name in gin files of earlier releases."""

from reincarnating_rl.runners.runner import ReincarnationRunner
from reincarnating_rl.runners.runner import RunnerWithTeacher

__all__ = ('ReincarnationRunner', 'RunnerWithTeacher')
