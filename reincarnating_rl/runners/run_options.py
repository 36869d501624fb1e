"""A run as its caller starts it, beside the bindings (layer 5)."""

from __future__ import annotations

import dataclasses
from typing import Optional

from reincarnating_rl.loop.training.events import Listener
from reincarnating_rl.loop.training.member_settings import Member


@dataclasses.dataclass(frozen=True)
class RunOptions:
  """One run, as its caller starts it.

  Attributes:
    agent_name: name of the agent, for the summary.
    game: name in the registry of environments.
    run_number: seed of everything.
    member: settings in which the run differs from others side by side.
    label: text before the progress bars, where several runs have some.
    how_to_resume: how a user resumes the stopped run, in words.
    fork_from: directory of a run whose newest checkpoint this run begins
      with, under its own settings.
    dry_run: True to plan only: a plan without data is not refused, and
      base_dir stays empty.
    gin_files: names of the configurations, for the summary.
    listeners: objects that are told what happens, beside the logs.
  """

  agent_name: str
  game: str
  run_number: int = 0
  member: Optional[Member] = None
  label: str = ''
  how_to_resume: str = 'start it again with the same settings'
  fork_from: Optional[str] = None
  dry_run: bool = False
  gin_files: tuple[str, ...] = ()
  listeners: tuple[Listener, ...] = ()
