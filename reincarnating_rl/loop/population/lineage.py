"""population.json: who copied whom, and with what settings all went on.

It is written before anything is copied: what it says of an iteration holds,
however often the copying is begun. `report.lineage` draws it.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, Optional, Sequence

from reincarnating_rl.base import files
from reincarnating_rl.loop.population.pbt import Copy

FILE_NAME = 'population.json'


class Exploit(NamedTuple):
  """What happened after one iteration.

  Attributes:
    iteration: as in the plan; of the online phase that had ended.
    phase: index in the plan of the phase that comes then.
    agent_steps: that each run had taken, online.
    scores: [S], of the evaluations by which it was decided.
    members: [S], settings in force until then.
    copies: who became the continuation of whom.
  """

  iteration: int
  phase: int
  agent_steps: int
  scores: tuple[float, ...]
  members: tuple[dict[str, float], ...]
  copies: tuple[Copy, ...]

  def to_json(self) -> dict[str, Any]:
    """JSON-ready, every entry under its name."""
    copies = [copy._asdict() for copy in self.copies]
    return self._asdict() | {'copies': copies}

  @classmethod
  def from_json(cls, found: dict[str, Any]) -> Exploit:
    copies = tuple(Copy(**copy) for copy in found['copies'])
    return cls(**found | {'copies': copies})


class Lineage:
  """The file of a group, and what it says.

  Attributes:
    exploits: all so far.
  """

  def __init__(
      self,
      base_dir: str,
      run_numbers: Sequence[int],
      mutated: Sequence[str],
      members: Sequence[dict[str, float]],
      reached: int,
  ):
    """Goes on with what is there.

    Args:
      base_dir: of the group.
      run_numbers: [S].
      mutated: names of the settings that change by themselves.
      members: [S], settings that runs without an earlier one begin with.
      reached: index of the phase that the run that is farthest stands before:
        what was to happen later did not.

    Raises:
      ValueError: if the file is damaged, or of other runs.
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
    """What happens before a phase, if that is decided."""
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
    """Decides what happens; it is on the disk when this returns.

    Raises:
      OSError: if the disk does not take it.
    """
    self.exploits.append(exploit)
    self.write()


def read(base_dir: str) -> tuple[dict[str, Any], list[Exploit]]:
  """What the file of a group says, and its exploits.

  Raises:
    ValueError: if it is not there, or damaged.
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
