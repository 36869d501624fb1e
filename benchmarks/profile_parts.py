"""Measures the parts of an update and of an agent step on this machine.

  python -m benchmarks.profile_parts
  python -m benchmarks.profile_parts --network impala_c51 --json
  python -m benchmarks.profile_parts --form blocks,products

An update of QDagger (batch 32) is taken apart. Each part is compiled alone and
measured in turn with the others; on an accelerator as 32 steps of one scan, as
updates are made there. The parts do not add up to the whole, since the compiler
fuses what it is given together. Each part has its floating-point operations (as
XLA counts them) and `limit`, the time of so many operations in a large matrix
product on this machine; the limit of the optimizer is the time to move its
bytes once in a large copy.

An agent step is taken apart the same way: the emulator with the preprocessing
of frames; choosing an action; storing the step.

Only layers up to the loop are needed.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, NamedTuple, Optional

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks import machine
from benchmarks import output
from benchmarks import workloads
from benchmarks.harness import Builder
from benchmarks.harness import Case
from benchmarks.harness import Work
from reincarnating_rl.base import tables
from reincarnating_rl.envs.registry import make_factory
from reincarnating_rl.learner import Sampler
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.loop.acting.replay_writer import ReplayWriter
from reincarnating_rl.networks import convolution
from reincarnating_rl.replay import frame_replay

_JSON, _QUICK = harness.define_flags()
_NETWORK = flags.DEFINE_enum(
    'network', 'nature_c51', list(workloads.NETWORKS), 'Network of the student.'
)
_FORM = flags.DEFINE_list(
    'form',
    None,
    'Forms of the convolutions: plain, or any of blocks, products '
    '(reincarnating_rl/networks/convolution.py); default is the best here.',
)
_REPEATS = flags.DEFINE_integer('repeats', 9, 'Measurements.', lower_bound=1)
_ROWS = flags.DEFINE_integer(
    'rows', 100_000, 'Rows of the replay.', lower_bound=64
)

# (carry, data) -> carry
Body = Callable[[Any, Any], Any]


class Part(NamedTuple):
  """A part of an update.

  Attributes:
    name: name in the table.
    body: one step of it.
    carry: arrays that it changes.
    data: arrays that it only reads.
    moved_bytes: bytes that it must move; None = its operations are the limit.
  """

  name: str
  body: Body
  carry: Any
  data: Any
  moved_bytes: Optional[int] = None


class Limits(NamedTuple):
  """Rates of the machine.

  Attributes:
    flops: floating-point operations a second of a matrix product.
    bandwidth: bytes a second, read and written, of a copy.
  """

  flops: float
  bandwidth: float


class Row(NamedTuple):
  """One line of the results; microseconds."""

  name: str
  time: Optional[float]
  limit: Optional[float] = None
  gflop: Optional[float] = None


# -- parts of an update -------------------------------------------------------


def parts_of_update(learner: ValueLearner, rows: int) -> list[Part]:
  """The whole update first, then its parts."""
  spec = workloads.taught_spec(rows)
  replay = workloads.filled_replay(spec)
  state = functools.partial(workloads.init_state, learner)
  batch, indices = frame_replay.sample(
      spec,
      replay.storage,
      replay.priorities,
      jax.random.PRNGKey(0),
      workloads.BATCH_SIZE,
  )
  priorities = lambda: jax.tree.map(jnp.copy, replay.priorities)

  def whole(carry, storage):
    return Sampler(learner, spec, workloads.BATCH_SIZE, True).update(
        carry[0], storage, carry[1]
    )[:2]

  def sample(carry, data):
    key, sample_key = jax.random.split(carry[0])
    storage, priorities = data
    drawn, _ = frame_replay.sample(
        spec, storage, priorities, sample_key, workloads.BATCH_SIZE
    )
    used = sum(jnp.sum(x, dtype=jnp.float32) for x in jax.tree.leaves(drawn))
    return key, carry[1] + used

  def forward(carry, data):
    params, states = data
    # Depends on the carry, so that no two steps are the same.
    states = states + carry.astype(jnp.uint8)
    return jnp.sum(learner.apply(params, states).q_values)

  def gradients(carry, data):
    fixed, transitions = data
    grads, _ = jax.grad(learner._loss, has_aux=True)(
        carry,
        fixed.target_params,
        fixed.coefficients,
        transitions,
        fixed.rng_key,
    )
    return jax.tree.map(lambda p, g: p + 1e-9 * g, carry, grads)

  def optimizer(carry, _):
    params, opt_state = carry
    step, opt_state = learner.optimizer.update(params, opt_state, params)
    return jax.tree.map(lambda p, d: p - 1e-4 * d, params, step), opt_state

  def write_back(carry, rows_):
    values = jnp.full(rows_.shape, 0.5) * carry.max_priority
    return frame_replay.update_priorities(carry, rows_, values)

  first = state()
  params = first.online_params
  # Reads gradient, parameters and two moments, writes three of them.
  moved = 7 * sum(x.nbytes for x in jax.tree.leaves(params))
  copied = lambda: jax.tree.map(jnp.copy, params)
  return [
      Part('whole update', whole, (state(), priorities()), replay.storage),
      Part(
          'sampling',
          sample,
          (jax.random.PRNGKey(0), jnp.float32(0)),
          (replay.storage, replay.priorities),
      ),
      Part('forward pass', forward, jnp.float32(0), (params, batch.s_tm1)),
      Part('loss and gradients', gradients, copied(), (first, batch)),
      Part('optimizer', optimizer, (copied(), state().opt_state), (), moved),
      Part('priorities', write_back, priorities(), indices),
  ]


def compile_part(part: Part, steps: int) -> tuple[Callable, float]:
  """Compiles a part.

  Args:
    part: part of an update.
    steps: steps of one call, as one scan; 1 = no scan.

  Returns:
    The call (carry, data) -> carry, and the operations of one step.
  """
  compiled = (
      jax.jit(part.body, donate_argnums=0)
      .lower(part.carry, part.data)
      .compile()
  )
  operations = float((compiled.cost_analysis() or {}).get('flops', 0.0))
  if steps == 1:
    return compiled, operations

  @functools.partial(jax.jit, donate_argnums=0)
  def call(carry, data):
    body = lambda c, _: (part.body(c, data), None)
    return jax.lax.scan(body, carry, length=steps)[0]

  return call, operations


# -- parts of an agent step ---------------------------------------------------


def works_of_step(learner: ValueLearner, num_envs: int) -> dict[str, Builder]:
  """Builders of the works of an agent step's parts."""
  calls = 8 if _QUICK.value else 200

  def emulator() -> Work:
    env = make_factory(workloads.GAME)(num_envs, 0)
    env.reset()
    rng = np.random.default_rng(0)
    step = lambda: env.step(rng.integers(0, env.num_actions, num_envs)).reward
    return workloads.repeated(step, calls, num_envs)

  def acting() -> Work:
    return workloads.act_work(learner, num_envs, calls)

  def storing() -> Work:
    spec = workloads.student_spec(1_000 * num_envs, num_envs)
    writer = ReplayWriter(spec, chunk=workloads.UPDATE_PERIOD)
    return workloads.add_work(writer, workloads.noise_steps(num_envs), calls)

  return {
      'emulator and preprocessing': emulator,
      'choosing an action': acting,
      'storing a step': storing,
  }


# -- the machine --------------------------------------------------------------


def measure_limits() -> Limits:
  """Rates of a large matrix product and of a large copy."""
  on_cpu = jax.default_backend() == 'cpu'
  size = (256 if _QUICK.value else 2048) * (1 if on_cpu else 4)
  x = jax.random.normal(jax.random.PRNGKey(0), (size, size))
  length = 2**20 if _QUICK.value else 2**26 if on_cpu else 2**29
  vector = jnp.zeros(length)
  return Limits(
      flops=2 * size**3 / _fastest(lambda a: a @ a, x),
      bandwidth=2 * vector.nbytes / _fastest(lambda a: a + 1.0, vector),
  )


def _fastest(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
  """Seconds of the fastest of seven calls, after a first one."""
  compiled = jax.jit(function)
  work = workloads.repeated(lambda: compiled(x), 1)
  work()
  times = [harness.measure(harness.MICROSECONDS, work, 0.0) for _ in range(7)]
  return min(times) / 1e6


# -- results ------------------------------------------------------------------


def medians(builders: dict[str, Builder]) -> dict[str, Optional[float]]:
  """Microseconds by name, measured in turn, one round of a work at a time."""
  cases = [Case(k, harness.MICROSECONDS, b, 0.0) for k, b in builders.items()]
  repeats = 1 if _QUICK.value else _REPEATS.value
  with output.progress(harness.num_measurements(cases, repeats)) as bar:
    results = harness.run_cases(cases, repeats, _QUICK.value, bar)
  return {r.name: harness.median(r.ours) for r in results}


def update_rows(learner: ValueLearner, limits: Limits) -> list[Row]:
  """Parts of an update."""
  steps = 1 if jax.default_backend() == 'cpu' else 32
  calls = 1 if _QUICK.value else 8
  parts = parts_of_update(learner, 600 if _QUICK.value else _ROWS.value)
  operations = {}

  def build(part: Part) -> Work:
    call, operations[part.name] = compile_part(part, steps)
    step = workloads.carried(lambda c: call(c, part.data), part.carry)
    return workloads.repeated(step, calls, steps)

  times = medians({p.name: functools.partial(build, p) for p in parts})
  rows = []
  for part in parts:
    flop = operations[part.name]
    limit = flop / limits.flops
    if part.moved_bytes is not None:
      limit = part.moved_bytes / limits.bandwidth
    rows.append(Row(part.name, times[part.name], 1e6 * limit, flop / 1e9))
  return rows


def step_rows(learner: ValueLearner) -> list[Row]:
  """Parts of an agent step, in one environment and in eight."""
  return [
      Row(f'{name}, {num_envs} at a time', value)
      for num_envs in (1, 8)
      for name, value in medians(works_of_step(learner, num_envs)).items()
  ]


def table(rows: list[Row]) -> str:
  cell = lambda x, digits: '-' if x is None else f'{x:,.{digits}f}'
  lines = [['part', 'us', 'limit us', 'GFLOP']]
  for r in rows:
    lines.append([r.name, cell(r.time, 1), cell(r.limit, 1), cell(r.gflop, 3)])
  return tables.table(lines)


def choose_form(names: list[str]) -> None:
  """Sets the form of the convolutions of all encoders.

  Raises:
    SystemExit: with one sentence, if a name is unknown.
  """
  unknown = set(names) - {'plain', *convolution.Form._fields}
  if unknown:
    raise SystemExit(
        f'--form={",".join(names)}: {", ".join(sorted(unknown))} is none of '
        f'plain, {", ".join(convolution.Form._fields)}.'
    )
  form = convolution.Form(**{name: True for name in names if name != 'plain'})
  convolution.best = lambda encoder: form


def main(argv: list[str]) -> None:
  del argv
  out = output.claim_stdout()
  if _FORM.value is not None:
    choose_form(_FORM.value)
  learner = workloads.make_learner(_NETWORK.value, distill=True)
  limits = measure_limits()
  rows = update_rows(learner, limits) + step_rows(learner)
  facts = machine.describe() | {
      'TFLOP/s': round(limits.flops / 1e12, 3),
      'GB/s': round(limits.bandwidth / 1e9, 1),
  }
  if _JSON.value:
    document = {'parts': [r._asdict() for r in rows], 'machine': facts}
    output.write_json(out, document)
  else:
    harness.write_table(out, table(rows), facts)


if __name__ == '__main__':
  app.run(main)
