"""docs/results.md agrees with its raw scores, and the sweeps with both."""

from __future__ import annotations

import json

import numpy as np
from paths import ROOT
import pytest

from reincarnating_rl.base.scores import normalized_score
from reincarnating_rl.launch import sweep as sweep_lib
from reincarnating_rl.launch import trials

# By GAME/METHOD/SEED; the other subjects of the page have one seed.
RESULTS = json.loads((ROOT / 'docs/results/methods.json').read_text())
COMPLETE = [key.removesuffix('/3') for key in RESULTS if key.endswith('/3')]


def _curve(game_and_method: str) -> tuple[np.ndarray, np.ndarray]:
  """Agent steps [T] and teacher-normalized scores [S, T] of a method."""
  game = game_and_method.split('/')[0]
  # Methods without a teacher are measured by that of the others.
  teacher = next(
      r['teacher_score']
      for key, r in RESULTS.items()
      if key.startswith(game) and r['teacher_score'] is not None
  )
  rows = []
  for seed in (1, 2, 3):
    result = RESULTS[f'{game_and_method}/{seed}']
    # The last evaluation counts if several come before the first online step.
    points = {
        i['agent_steps']: normalized_score(
            i['student_score'], result['random_score'], teacher
        )
        for i in result['iterations']
        if i['student_score'] is not None
    }
    rows.append([points[steps] for steps in sorted(points)])
  return np.array(sorted(points)), np.array(rows)


@pytest.mark.parametrize('game_and_method', COMPLETE)
def test_the_page_has_the_scores_of_the_file(game_and_method):
  steps, scores = _curve(game_and_method)
  area = scores[:, steps > 0].mean(axis=1)
  start = f'{scores[:, 0].mean():.2f}' if steps[0] == 0 else ''
  row = (
      f'| `{game_and_method.split("/")[1]}` '
      f'| {area.mean():.2f} ({area.min():.2f} to {area.max():.2f}) '
      f'| {start} | {scores[:, -1].mean():.2f} | {len(area)} |'
  )
  assert row in (ROOT / 'docs/results.md').read_text().splitlines()


def test_the_file_is_complete():
  assert len(COMPLETE) == 14 + 9


def test_the_sweeps_carry_out_what_was_measured():
  found = set()
  for name in ('methods', 'resets', 'replay_ratios'):
    sweep = sweep_lib.read(str(ROOT / 'experiments' / f'{name}.yaml'), {})
    found |= {
        trial.name.replace('qdagger_rainbow/replay_ratio=', 'replay_ratio_')
        for trial in trials.make_trials(
            sweep, trials.configurations(sweep), False
        )
    }
  assert len(found) == 2 * 14 * 3 + 3 + 5
  measured = {'/run_'.join(key.rsplit('/', 1)) for key in RESULTS}
  assert measured <= found
