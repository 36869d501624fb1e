"""Population-based training over processes: what is wanted, what came of it.

Members are processes of their own, so anything that gin binds may change: n,
the replay ratio, the network's width. Ray Tune's scheduler decides who copies
whom; `evolving` carries its decisions out.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from reincarnating_rl.launch import sampling
from reincarnating_rl.launch.sampling import Distribution
from reincarnating_rl.loop import lineage
from reincarnating_rl.loop import summary

REPORTS = 'reports.jsonl'

Settings = Mapping[str, Any]  # by the name that is bound


@dataclasses.dataclass(frozen=True)
class Population:
  """Members that copy each other.

  Attributes:
    size: how many there are, for each seed that is given one population.
    mutations: by the name of what is bound, where its values come from.
    interval: online iterations between two exploits.
    quantile: share of the members that copy, and that are copied.
    resample_probability: that a setting is drawn anew.
    perturbation_factors: one of which it is multiplied by otherwise.
  """

  size: int
  mutations: Mapping[str, Distribution]
  interval: int = 1
  quantile: float = 0.25
  resample_probability: float = 0.25
  perturbation_factors: tuple[float, ...] = (0.8, 1.25)

  def first_settings(self, member: int, seed: int) -> dict[str, Any]:
    """Drawn; the same ones whenever they are asked for."""
    rng = np.random.default_rng((seed, member))
    return {name: d.draw(rng) for name, d in self.mutations.items()}

  def within(self, settings: Settings) -> dict[str, Any]:
    """Settings brought back to where their distributions end."""
    return {n: self.mutations[n].nearest(v) for n, v in settings.items()}


_FIELDS = tuple(field.name for field in dataclasses.fields(Population))


def parse(description: Any) -> Population:
  """Reads the entry `population` of a sweep.

  Raises:
    ValueError: one sentence, for what is not of its form.
  """
  if not isinstance(description, dict) or set(description) - set(_FIELDS):
    raise ValueError(
        f'population must have entries of {", ".join(_FIELDS)}, not '
        f'{description!r}'
    )
  mutations = description.get('mutations')
  if not isinstance(mutations, dict) or not mutations:
    raise ValueError(
        'population needs mutations: a distribution for each name that is '
        f'bound, not {mutations!r}'
    )
  given = dict(description)
  given['mutations'] = {n: sampling.parse(n, d) for n, d in mutations.items()}
  if 'perturbation_factors' in given:
    given['perturbation_factors'] = tuple(given['perturbation_factors'])
  is_count = lambda x: isinstance(x, int) and not isinstance(x, bool)
  size, interval = given.get('size'), given.get('interval', 1)
  if not is_count(size) or size < 2:
    raise ValueError(f'population needs a size of two or more, not {size!r}')
  if not is_count(interval) or interval < 1:
    raise ValueError(
        'interval of population must be one or more online iterations, not '
        f'{interval!r}'
    )
  found = Population(**given)
  if not 0 < found.quantile <= 0.5:
    raise ValueError(
        'quantile of population must be above 0 and at most 0.5, not '
        f'{found.quantile!r}'
    )
  if not 0 <= found.resample_probability <= 1:
    raise ValueError(
        'resample_probability of population must be between 0 and 1, not '
        f'{found.resample_probability!r}'
    )
  factors = found.perturbation_factors
  if not factors or not all(
      isinstance(f, (int, float)) and f > 0 for f in factors
  ):
    raise ValueError(
        'perturbation_factors of population must be positive numbers, not '
        f'{list(factors)!r}'
    )
  return found


class Report(NamedTuple):
  """What a member came to between two exploits.

  Attributes:
    member: index in the population.
    iterations: online ones done.
    agent_steps: online ones done.
    score: mean return of the last evaluation.
    settings: in force.
    source: index of whom it copied just before; its own if nobody.
    copies: how often it has copied somebody so far.
  """

  member: int
  iterations: int
  agent_steps: int
  score: float
  settings: dict[str, Any]
  source: int
  copies: int = 0


def add_report(folder: str, report: Report) -> None:
  """Adds a line to what the members of a population have said."""
  line = json.dumps(report._asdict()) + '\n'
  with open(os.path.join(folder, REPORTS), 'a', encoding='utf-8') as f:
    f.write(line)


def read_reports(folder: str) -> dict[tuple[int, int], Report]:
  """By (iterations, member); of two, the later one counts.

  A line that is torn was never finished, and its member says it again.
  """
  found = {}
  try:
    with open(os.path.join(folder, REPORTS), encoding='utf-8') as f:
      lines = f.read().splitlines()
  except FileNotFoundError:
    return {}
  for line in lines:
    try:
      report = Report(**json.loads(line))
    except ValueError:
      continue
    found[report.iterations, report.member] = report
  return found


def write_lineage(
    folder: str, run_numbers: Sequence[int], offset: int
) -> Optional[dict[str, Any]]:
  """Writes population.json out of the reports, as far as all have come.

  Args:
    folder: of the population.
    run_numbers: of the members.
    offset: iterations of the plan before the online ones.

  Returns:
    What was written; None while not all members have reported.
  """
  reports = read_reports(folder)
  size = len(run_numbers)
  stops = sorted({iterations for iterations, _ in reports})
  rounds = [
      [reports[stop, k] for k in range(size)]
      for stop in stops
      if all((stop, k) in reports for k in range(size))
  ]
  if not rounds:
    return None
  exploits = []
  for before, after in zip(rounds, rounds[1:]):
    first = before[0]
    exploits.append(
        lineage.Exploit(
            offset + first.iterations,
            offset + first.iterations,
            first.agent_steps,
            tuple(report.score for report in before),
            tuple(numbers(report.settings) for report in before),
            tuple(
                lineage.Copy(k, report.source, numbers(report.settings))
                for k, report in enumerate(after)
                if report.source != k
            ),
        ).to_json()
    )
  document = {
      'run_numbers': list(run_numbers),
      'mutated': sorted(numbers(rounds[0][0].settings)),
      'members': [numbers(report.settings) for report in rounds[0]],
      'exploits': exploits,
  }
  summary.write_json(os.path.join(folder, lineage.FILE_NAME), document)
  return document


def numbers(settings: Settings) -> dict[str, float]:
  """Settings that can be drawn, under the last part of their names."""
  return {
      name.rpartition('.')[2]: float(value)
      for name, value in settings.items()
      if isinstance(value, (int, float))
  }
