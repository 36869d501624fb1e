"""Lineage of a population: population.json holds all copies and settings.

The decision after an iteration is written before any run copies. A process
that resumes in the middle reads it and completes the copies. `report.lineage`
draws the file.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, Optional, Sequence

from reincarnating_rl.base import files
from reincarnating_rl.loop.population.pbt import Copy

FILE_NAME = 'population.json'


class Exploit(NamedTuple):
  """Decision of population-based training after one iteration.

  Attributes:
    iteration: number in the plan of the online iteration that ended.
    phase: index in the plan of the phase that follows.
    agent_steps: online agent steps of each run so far.
    scores: [S], evaluation scores that decided.
    members: [S], settings before the exploit.
    copies: copies to make.
  """

  iteration: int
  phase: int
  agent_steps: int
  scores: tuple[float, ...]
  members: tuple[dict[str, float], ...]
  copies: tuple[Copy, ...]

  def to_json(self) -> dict[str, Any]:
    """Returns a JSON-ready dict."""
    copies = [copy._asdict() for copy in self.copies]
    return self._asdict() | {'copies': copies}

  @classmethod
  def from_json(cls, found: dict[str, Any]) -> Exploit:
    copies = tuple(Copy(**copy) for copy in found['copies'])
    return cls(**found | {'copies': copies})


class Lineage:
  """Lineage of the runs of one group, kept in population.json.

  Attributes:
    exploits: decisions so far.
  """

  def __init__(
      self,
      base_dir: str,
      run_numbers: Sequence[int],
      mutated: Sequence[str],
      members: Sequence[dict[str, float]],
      reached: int,
  ):
    """Reads the file if there is one.

    Args:
      base_dir: directory of the group.
      run_numbers: [S], run numbers (seeds) of the runs.
      mutated: names of the settings that change during training.
      members: [S], first settings of the runs; ignored if the file has some.
      reached: index of the next phase of the run that is furthest. Decisions
        after it have not been carried out and are dropped.

    Raises:
      ValueError: if the file is damaged or belongs to other runs.
    """
    self._path = os.path.join(base_dir, FILE_NAME)
    self._document = {
        'run_numbers': list(run_numbers),
        'mutated': list(mutated),
        'members': list(members),
    }
    document, exploits = (
        read(base_dir) if os.path.exists(self._path) else ({}, [])
    )
    self.exploits = [e for e in exploits if e.phase <= reached]
    if self.exploits:
      self._check_runs(document['run_numbers'])
      self._document['members'] = document['members']

  def _check_runs(self, there: Sequence[int]) -> None:
    wanted = self._document['run_numbers']
    if list(there) != wanted:
      listed = lambda numbers: ', '.join(map(str, numbers))
      raise ValueError(
          f'{self._path} says how runs {listed(there)} copied each other, and '
          f'runs {listed(wanted)} are wanted: want those, or choose another '
          'directory.'
      )

  def before(self, phase: int) -> Optional[Exploit]:
    """Returns the decision before a phase, if there is one."""
    found = [e for e in self.exploits if e.phase == phase]
    return found[0] if found else None

  def write(self) -> None:
    """Writes the file, whole or not at all.

    Raises:
      OSError: if the disk does not take it.
    """
    exploits = [exploit.to_json() for exploit in self.exploits]
    files.write_json(self._path, self._document | {'exploits': exploits})

  def add(self, exploit: Exploit) -> None:
    """Adds a decision; it is on the disk when this returns.

    Raises:
      OSError: if the disk does not take it.
    """
    self.exploits.append(exploit)
    self.write()


def read(base_dir: str) -> tuple[dict[str, Any], list[Exploit]]:
  """Reads the file of a group; returns the document and its exploits.

  Raises:
    ValueError: if the file is missing or damaged.
  """
  path = os.path.join(base_dir, FILE_NAME)
  try:
    with open(path, encoding='utf-8') as f:
      document = json.load(f)
    exploits = [Exploit.from_json(found) for found in document['exploits']]
    for name in ('run_numbers', 'mutated', 'members'):
      document[name]
  except OSError as e:
    raise ValueError(f'{path} cannot be read ({e.strerror}).') from e
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(
        f'{path} is no record of a population, or damaged: move it away, or '
        'bring the file back.'
    ) from e
  return document, exploits
