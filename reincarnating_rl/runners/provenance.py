"""Where a teacher came from, and what the whole chain has cost (layer 5).

A run may be the teacher of another, and that of a third: each summary names
them all, the nearest first, with the frames that each has played. Of several
teachers together each has a chain of its own; what they share counts once.
"""

from __future__ import annotations

import json
import os
from typing import Any, Iterable, Optional

from reincarnating_rl.loop.saving.compatibility import fingerprint
from reincarnating_rl.rundir import summary
from reincarnating_rl.rundir.metrics_file import FRAMES_PER_AGENT_STEP
from reincarnating_rl.teachers import LoadedEnsemble
from reincarnating_rl.teachers import LoadedTeacher
from reincarnating_rl.teachers import loading


def of_teacher(teacher: LoadedTeacher) -> dict[str, Any]:
  """What is known of a teacher and of its teachers, JSON-ready.

  Args:
    teacher: as it was loaded.

  Returns:
    Its path, checkpoint, checksum and score; 'frames' that it and the
    collection of its own data took (None if nobody knows); 'ancestors': the
    same of its teacher, of that one's teacher, and so on. Of an ensemble also
    'teachers', the same of each, who are its ancestors, and how it was made of
    them; it has played no frames itself.
  """
  if isinstance(teacher, LoadedEnsemble):
    members = [of_teacher(member) for member in teacher.members]
    return _facts(teacher, 0) | {
        'replay_of': teacher.left_data[0].path if teacher.left_data else None,
        'combine': teacher.combine,
        'weights': teacher.weights,
        'temperature': teacher.temperature,
        'teachers': members,
        'ancestors': _each_once(link for m in members for link in _chain(m)),
    }
  parent = _summary_beside(teacher)
  steps = teacher.known_agent_steps
  frames = None
  if steps is not None:
    frames = FRAMES_PER_AGENT_STEP * steps
    frames += (parent or {}).get('frames', {}).get('collected', 0)
  return _facts(teacher, frames) | {'ancestors': _ancestors(parent)}


def _facts(teacher: LoadedTeacher, frames: Optional[int]) -> dict[str, Any]:
  """What is known of a teacher itself."""
  return {
      'path': teacher.path,
      'checkpoint_number': teacher.checkpoint_number,
      'format': teacher.format,
      'agent': teacher.agent,
      'params_crc32c': fingerprint(teacher.params),
      'recorded_score': teacher.score,
      'training_steps': teacher.training_steps,
      'frames': frames,
      'replay_rows': len(teacher.replay) if teacher.replay else None,
  }


def _summary_beside(teacher: LoadedTeacher) -> Optional[dict[str, Any]]:
  """The summary of the run that a teacher was; None if it was none."""
  try:
    directory = loading.find_directory(teacher.path)
    path = os.path.join(directory, summary.FILE_NAME)
    with open(path, encoding='utf-8') as f:
      return json.load(f)
  except (OSError, ValueError):
    return None


def _ancestors(parent: Optional[dict[str, Any]]) -> list[dict[str, Any]]:
  known = (parent or {}).get('config', {}).get('teacher')
  return _chain(known) if known else []


def _chain(known: dict[str, Any]) -> list[dict[str, Any]]:
  """A teacher and its ancestors, none with a list of its own."""
  nearest = {k: v for k, v in known.items() if k != 'ancestors'}
  return [nearest, *known.get('ancestors', [])]


def _each_once(links: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Links of several chains, of each run the one that has played most."""
  kept = []
  for link in links:
    same = [i for i, other in enumerate(kept) if _are_one_run(link, other)]
    if not same:
      kept.append(link)
    elif (link.get('frames') or 0) > (kept[same[0]].get('frames') or 0):
      kept[same[0]] = link
  return kept


def _are_one_run(a: dict[str, Any], b: dict[str, Any]) -> bool:
  """Whether two teachers are one network, or checkpoints of one run."""
  return any(
      a.get(name) is not None and a.get(name) == b.get(name)
      for name in ('params_crc32c', 'path')
  )


def frames(
    agent_steps: int, collected_steps: int, teacher: Optional[dict[str, Any]]
) -> dict[str, Optional[int]]:
  """Emulator frames that a run and all before it have played.

  Args:
    agent_steps: of the student, online.
    collected_steps: agent steps that its teacher has collected for it.
    teacher: what `of_teacher` said; None if it learned from nothing.

  Returns:
    'online', 'collected', 'before' (by its teacher and all of that one's) and
    'chain', the sum; None where the steps of one of them are unknown.
  """
  found = {
      'online': FRAMES_PER_AGENT_STEP * agent_steps,
      'collected': FRAMES_PER_AGENT_STEP * collected_steps,
  }
  links = _chain(teacher) if teacher else []
  spent = [link.get('frames') for link in links]
  before = None if None in spent else sum(spent)
  own = sum(found.values())
  chain = None if before is None else before + own
  return found | {'before': before, 'chain': chain}
