"""Where the time of an update and of an agent step goes on this machine.

  python benchmarks/profile_parts.py
  python benchmarks/profile_parts.py --network impala_c51 --json
  python benchmarks/profile_parts.py --form blocks,products

An update of QDagger (batch 32) is taken apart: each part is compiled alone and
measured in turn with the others, on an accelerator as 32 steps of one scan, as
updates are made there. Parts alone do not add up to the whole: the compiler
fuses what it is given together. Beside each stand its floating-point operations
(as XLA counts them) and the time that they would take at the rate of a large
matrix product of this machine, `limit`; for the optimizer that of moving its
bytes once at the bandwidth of a large copy.

An agent step is taken apart the same way: the emulator, with the frames'
preprocessing; choosing an action; storing the step.

Needs layers 0 to 4 of the package only.
"""

from __future__ import annotations

import functools
import statistics
import time
from typing import Any, Callable, NamedTuple, Optional

from absl import app
from absl import flags
import bench_lib
import bench_work
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.envs.registry import make_factory
from reincarnating_rl.learner import Sampler
from reincarnating_rl.learner import ValueLearner
from reincarnating_rl.loop.acting.replay_writer import ReplayWriter
from reincarnating_rl.networks import convolution
from reincarnating_rl.replay import frame_replay

_JSON = flags.DEFINE_bool('json', False, 'Print one JSON object, not a table.')
_QUICK = flags.DEFINE_bool(
    'quick', False, 'Tiny sizes: a test, no measurement.'
)
_NETWORK = flags.DEFINE_enum(
    'network', 'nature_c51', list(bench_work.NETWORKS), 'Of the student.'
)
_FORM = flags.DEFINE_list(
    'form',
    None,
    'How convolutions are executed: plain, or any of blocks, products '
    '(reincarnating_rl/networks/convolution.py); default what is best here.',
)
_REPEATS = flags.DEFINE_integer('repeats', 9, 'Measurements.', lower_bound=1)
_ROWS = flags.DEFINE_integer('rows', 100_000, 'Of the replay.', lower_bound=64)

# (carry, data) -> carry
Body = Callable[[Any, Any], Any]


class Part(NamedTuple):
  """A piece of an update.

  Attributes:
    name: for people.
    body: one step of it.
    carry: what it changes.
    data: what it only reads.
    moved_bytes: that it must move; None = what it computes is the limit.
  """

  name: str
  body: Body
  carry: Any
  data: Any
  moved_bytes: Optional[int] = None


class Limits(NamedTuple):
  """What the machine can do.

  Attributes:
    flops: floating-point operations a second, of a matrix product.
    bandwidth: bytes a second, read and written, of a copy.
  """

  flops: float
  bandwidth: float


class Row(NamedTuple):
  """One line of the outcome; microseconds."""

  name: str
  time: float
  limit: Optional[float]
  gflop: Optional[float]


# -- pieces of an update ------------------------------------------------------


def parts_of_update(learner: ValueLearner, rows: int) -> list[Part]:
  """The whole update first, then its pieces."""
  spec = bench_work.taught_spec(rows)
  replay = bench_work.filled_replay(spec)
  state = functools.partial(bench_work.init_state, learner)
  batch, indices = frame_replay.sample(
      spec,
      replay.storage,
      replay.priorities,
      jax.random.PRNGKey(0),
      bench_work.BATCH_SIZE,
  )
  priorities = lambda: jax.tree.map(jnp.copy, replay.priorities)

  def whole(carry, storage):
    return Sampler(learner, spec, bench_work.BATCH_SIZE, True).update(
        carry[0], storage, carry[1]
    )[:2]

  def sample(carry, data):
    key, sample_key = jax.random.split(carry[0])
    drawn, _ = frame_replay.sample(
        spec, *data, sample_key, bench_work.BATCH_SIZE
    )
    used = sum(jnp.sum(x, dtype=jnp.float32) for x in jax.tree.leaves(drawn))
    return key, carry[1] + used

  def forward(carry, data):
    params, states = data
    # Something of the carry, so that no two steps are the same.
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


def timed(part: Part, steps: int) -> tuple[Callable[[], float], float]:
  """Compiles a part.

  Args:
    part: of an update.
    steps: of one call, as one scan; 1 = no scan.

  Returns:
    What measures one step in microseconds, and its operations.
  """
  one = jax.jit(part.body).lower(part.carry, part.data).compile()
  operations = float((one.cost_analysis() or {}).get('flops', 0.0))

  @functools.partial(jax.jit, donate_argnums=0)
  def call(carry, data):
    if steps == 1:
      return part.body(carry, data)
    body = lambda c, _: (part.body(c, data), None)
    return jax.lax.scan(body, carry, length=steps)[0]

  alive = [jax.block_until_ready(call(part.carry, part.data))]
  calls = 1 if _QUICK.value else 8

  def measure() -> float:
    start = time.perf_counter()
    for _ in range(calls):
      alive[0] = call(alive[0], part.data)
    jax.block_until_ready(alive)
    return 1e6 * (time.perf_counter() - start) / (calls * steps)

  return measure, operations


# -- pieces of an agent step --------------------------------------------------


def pieces_of_step(
    learner: ValueLearner, num_envs: int
) -> dict[str, Callable[[], float]]:
  """What measures a piece, in microseconds of one agent step."""
  env = make_factory(bench_work.GAME)(num_envs, 0)
  env.reset()
  rng = np.random.default_rng(0)
  spec = bench_work.student_spec(1_000 * num_envs, num_envs)
  writer = ReplayWriter(spec, chunk=bench_work.UPDATE_PERIOD)
  calls = 8 if _QUICK.value else 200

  def emulator() -> int:
    for _ in range(calls):
      env.step(rng.integers(0, env.num_actions, num_envs))
    return calls * num_envs

  works = {
      'emulator and preprocessing': emulator,
      'choosing an action': bench_work.act_work(learner, num_envs, calls),
      'storing a step': bench_work.add_work(
          writer, bench_work.noise_steps(num_envs), calls
      ),
  }
  for work in works.values():
    work()

  def microseconds(work: Callable[[], float]) -> float:
    start = time.perf_counter()
    units = work()
    return 1e6 * (time.perf_counter() - start) / units

  return {k: functools.partial(microseconds, w) for k, w in works.items()}


# -- the machine --------------------------------------------------------------


def limits() -> Limits:
  """Rates of a large matrix product and of a large copy."""
  size = 256 if _QUICK.value else 2048
  on_cpu = jax.default_backend() == 'cpu'
  size *= 1 if on_cpu else 4
  x = jax.random.normal(jax.random.PRNGKey(0), (size, size))
  product = jax.jit(lambda a: a @ a)
  length = 2**20 if _QUICK.value else 2**26 if on_cpu else 2**29
  vector = jnp.zeros(length)
  copy = jax.jit(lambda a: a + 1.0)
  return Limits(
      flops=2 * size**3 / _fastest(product, x),
      bandwidth=2 * vector.nbytes / _fastest(copy, vector),
  )


def _fastest(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
  """Seconds of the fastest of some calls."""
  jax.block_until_ready(function(x))
  seconds = []
  for _ in range(7):
    start = time.perf_counter()
    jax.block_until_ready(function(x))
    seconds.append(time.perf_counter() - start)
  return min(seconds)


# -- outcome ------------------------------------------------------------------


def medians(measures: dict[str, Callable[[], float]]) -> dict[str, float]:
  """Of several rounds, in turn."""
  values = {name: [] for name in measures}
  repeats = 1 if _QUICK.value else _REPEATS.value
  for r in range(repeats):
    for name in bench_lib.alternate(list(measures), r):
      values[name].append(measures[name]())
  return {name: statistics.median(v) for name, v in values.items()}


def update_rows(learner: ValueLearner, machine: Limits) -> list[Row]:
  """Parts of an update."""
  steps = 1 if jax.default_backend() == 'cpu' else 32
  parts = parts_of_update(learner, 600 if _QUICK.value else _ROWS.value)
  compiled = {p.name: timed(p, steps) for p in parts}
  times = medians({name: measure for name, (measure, _) in compiled.items()})
  rows = []
  for part in parts:
    operations = compiled[part.name][1]
    limit = operations / machine.flops
    if part.moved_bytes is not None:
      limit = part.moved_bytes / machine.bandwidth
    rows.append(Row(part.name, times[part.name], 1e6 * limit, operations / 1e9))
  return rows


def step_rows(learner: ValueLearner) -> list[Row]:
  """Pieces of an agent step, in one environment and in eight."""
  return [
      Row(f'{name}, {num_envs} at a time', value, None, None)
      for num_envs in (1, 8)
      for name, value in medians(pieces_of_step(learner, num_envs)).items()
  ]


def table(rows: list[Row]) -> str:
  cell = lambda x, digits: '-' if x is None else f'{x:,.{digits}f}'
  lines = [['part', 'us', 'limit us', 'GFLOP']]
  for r in rows:
    lines.append([r.name, cell(r.time, 1), cell(r.limit, 1), cell(r.gflop, 3)])
  return bench_lib.format_table(lines)


def choose_form(names: list[str]) -> None:
  """Lets all encoders have a form.

  Raises:
    SystemExit: with one sentence, if there is none of that name.
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
  out = bench_lib.claim_stdout()
  if _FORM.value is not None:
    choose_form(_FORM.value)
  learner = bench_work.make_learner(_NETWORK.value, distill=True)
  machine = limits()
  rows = update_rows(learner, machine) + step_rows(learner)
  facts = bench_lib.describe_machine() | {
      'TFLOP/s': round(machine.flops / 1e12, 3),
      'GB/s': round(machine.bandwidth / 1e9, 1),
  }
  if _JSON.value:
    bench_lib.write_json(
        out, {'parts': [r._asdict() for r in rows], 'machine': facts}
    )
    return
  out.write(table(rows) + '\n\n')
  out.write(', '.join(f'{k} {v}' for k, v in facts.items()) + '\n')
  out.flush()


if __name__ == '__main__':
  app.run(main)
