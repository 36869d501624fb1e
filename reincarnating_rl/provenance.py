"""Where a teacher came from, and what the whole chain has cost (layer 5).

A run may be the teacher of another, and that of a third: each summary names
them all, the nearest first, with the frames that each has played.
"""

from __future__ import annotations

import json
import os
from typing import Any, Optional

from reincarnating_rl.loop import summary
from reincarnating_rl.loop.identity import fingerprint
from reincarnating_rl.loop.metrics_file import FRAMES_PER_AGENT_STEP
from reincarnating_rl.teachers import LoadedTeacher
from reincarnating_rl.teachers import loading


def of_teacher(teacher: LoadedTeacher) -> dict[str, Any]:
  """What is known of a teacher and of its teachers, JSON-ready.

  Args:
    teacher: as it was loaded.

  Returns:
    Its path, checkpoint, checksum and score; 'frames' that it and the
    collection of its own data took (None if nobody knows); 'ancestors': the
    same of its teacher, of that one's teacher, and so on.
  """
  parent = _summary_beside(teacher)
  steps = teacher.known_agent_steps
  frames = None
  if steps is not None:
    frames = FRAMES_PER_AGENT_STEP * steps
    frames += (parent or {}).get('frames', {}).get('collected', 0)
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
      'ancestors': _ancestors(parent),
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
  if not known:
    return []
  nearest = {k: v for k, v in known.items() if k != 'ancestors'}
  return [nearest, *known.get('ancestors', [])]


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
  links = [teacher, *teacher['ancestors']] if teacher else []
  spent = [link.get('frames') for link in links]
  before = None if None in spent else sum(spent)
  own = sum(found.values())
  chain = None if before is None else before + own
  return found | {'before': before, 'chain': chain}
