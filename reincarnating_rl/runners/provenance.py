"""Provenance of a teacher, and the frames that its whole chain has played.

A run may be the teacher of another run, and so on. Each summary lists all
teachers of its chain, the nearest first, with the frames that each has played.
An ensemble of teachers has one chain per member; shared teachers count once.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional

from reincarnating_rl.loop.saving.compatibility import fingerprint
from reincarnating_rl.rundir import summary
from reincarnating_rl.rundir.metrics_file import FRAMES_PER_AGENT_STEP
from reincarnating_rl.teachers import LoadedEnsemble
from reincarnating_rl.teachers import LoadedTeacher
from reincarnating_rl.teachers import loading


def of_teacher(teacher: LoadedTeacher) -> dict[str, Any]:
  """Describes a teacher and its own teachers, ready for JSON.

  Args:
    teacher: a loaded teacher.

  Returns:
    Path, checkpoint, checksum and score; 'frames', played by the teacher and by
    the collection of its data (None if unknown); 'ancestors', the same facts
    of its teacher, of that teacher's teacher, and so on. An ensemble also has
    'teachers', the facts of each member, and how they are combined; its
    ancestors are the members and theirs, and its own frames are 0.
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
    frames += parent.get('frames', {}).get('collected', 0)
  return _facts(teacher, frames) | {'ancestors': _ancestors(parent)}


def _facts(teacher: LoadedTeacher, frames: Optional[int]) -> dict[str, Any]:
  """Facts of a teacher without those of its own teachers."""
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


def _summary_beside(teacher: LoadedTeacher) -> dict[str, Any]:
  """Summary of the run that trained a teacher; empty if there is none."""
  try:
    directory = loading.find_directory(teacher.path)
  except (OSError, ValueError):
    return {}
  return summary.read_if_possible(directory)


def _ancestors(parent: dict[str, Any]) -> list[dict[str, Any]]:
  known = parent.get('config', {}).get('teacher')
  return _chain(known) if known else []


def _chain(known: dict[str, Any]) -> list[dict[str, Any]]:
  """A teacher and its ancestors, without nested 'ancestors'."""
  nearest = {k: v for k, v in known.items() if k != 'ancestors'}
  return [nearest, *known.get('ancestors', [])]


def _each_once(links: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Links of several chains; of each run only the one with most frames."""
  kept: list[dict[str, Any]] = []
  for link in links:
    same = [i for i, other in enumerate(kept) if _are_one_run(link, other)]
    if not same:
      kept.append(link)
    elif (link.get('frames') or 0) > (kept[same[0]].get('frames') or 0):
      kept[same[0]] = link
  return kept


def _are_one_run(a: dict[str, Any], b: dict[str, Any]) -> bool:
  """True for the same parameters, or two checkpoints of one run."""
  return any(
      a.get(name) is not None and a.get(name) == b.get(name)
      for name in ('params_crc32c', 'path')
  )


def frames(
    agent_steps: int, collected_steps: int, teacher: Optional[dict[str, Any]]
) -> dict[str, Optional[int]]:
  """Counts emulator frames of a run and of all teachers before it.

  Args:
    agent_steps: online agent steps of the student.
    collected_steps: agent steps that the teacher collected for this run.
    teacher: result of `of_teacher`; None for a run from scratch.

  Returns:
    'online', 'collected', 'before' (by the teacher and its ancestors) and
    'chain', the sum. 'before' and 'chain' are None if the frames of one of
    them are unknown.
  """
  found = {
      'online': FRAMES_PER_AGENT_STEP * agent_steps,
      'collected': FRAMES_PER_AGENT_STEP * collected_steps,
  }
  links = _chain(teacher) if teacher else []
  spent = [link.get('frames') for link in links]
  known = [count for count in spent if count is not None]
  before = sum(known) if len(known) == len(spent) else None
  chain = None if before is None else before + sum(found.values())
  return {**found, 'before': before, 'chain': chain}
