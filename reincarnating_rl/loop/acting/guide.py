"""Guide of jump-start RL: teacher and student take turns in an episode.

Each training episode has a roll-in of h agent steps, with a new random h, and
then a roll-out. There are two forms:

- Uchendu et al. (2023): the teacher (the guide) acts in the roll-in, the
  student in the roll-out.
- The other form: the student acts in the roll-in. In the roll-out the guide
  acts with a probability that decays, else the student.

Evaluations have no guide.

Shape letters: E environments, A actions.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from reincarnating_rl.base.stateful import Stateful
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Actor
from reincarnating_rl.learner.policy import Carry
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.loop.config.guide_config import GuideConfig


class GuideState(NamedTuple):
  """Positions in the running episodes, and the key of the next draws."""

  episode_steps: jax.Array  # [E] int32, agent steps of the running episodes
  roll_in_steps: jax.Array  # [E] int32, h of the running episodes
  max_roll_in_steps: jax.Array  # [] int32, H, the largest h
  guided_steps: jax.Array  # [] int32, steps of the guide in this iteration
  rng_key: jax.Array


class Guide(Stateful):
  """Teacher that takes steps in the student's episodes.

  Attributes:
    config: settings of the turns.
    state: everything that changes.
  """

  SAVED = ('state',)
  REBUILT = ('config', '_policy')

  def __init__(
      self,
      config: GuideConfig,
      policy: Policy,
      num_envs: int,
      rng_key: jax.Array,
  ):
    """Builds a guide before the first episode.

    Args:
      config: settings of the turns.
      policy: policy of the teacher, which acts greedily and without noise.
      num_envs: E.
      rng_key: consumed.
    """
    self.config = config
    self._policy = policy
    zeros = np.zeros(num_envs, np.int32)
    self.state = GuideState(
        episode_steps=jnp.array(zeros),
        roll_in_steps=jnp.array(zeros),
        max_roll_in_steps=jnp.int32(config.max_roll_in_steps),
        guided_steps=jnp.int32(0),
        rng_key=rng_key,
    )

  def act(
      self,
      student: Policy,
      observation: np.ndarray,
      first: np.ndarray,
      carry: Carry,
      epsilon: float,
      agent_steps: int,
      act_key: jax.Array,
  ) -> tuple[jax.Array, Carry, jax.Array]:
    """Chooses actions, of the guide or of the student in each environment.

    Args:
      student: policy of the student: epsilon-greedy and with noise, as without
        a guide.
      observation: [E, C, H, W] uint8.
      first: [E] bool, True where the observation begins an episode.
      carry: carry of the student.
      epsilon: the student's probability of a random action.
      agent_steps: online agent steps so far.
      act_key: key of the student, consumed.

    Returns:
      [E] int32 actions, the student's next carry, and its next key.
    """
    actions, carry, act_key, self.state = act_in_turns(
        student.actor,
        self._policy.network,
        self.config.roll_in_guide,
        student.params,
        self._policy.params,
        observation,
        first,
        carry,
        np.float32(epsilon),
        np.float32(self.config.guide_prob(agent_steps)),
        self.state,
        act_key,
    )
    return actions, carry, act_key

  def end_iteration(self, agent_steps: int) -> dict[str, float]:
    """Shrinks H and sets the count of the guide's steps to zero.

    Args:
      agent_steps: agent steps of the iteration.

    Returns:
      'guide_share', the guide's share of these steps, and 'max_roll_in_steps',
      the H of the iteration.
    """
    guided, max_steps = map(
        int,
        jax.device_get((self.state.guided_steps, self.state.max_roll_in_steps)),
    )
    # Rounded first: in floating point 0.29 * 100 is less than 29.
    shrunk = math.floor(round(max_steps * self.config.roll_in_decay, 6))
    self.state = self.state._replace(
        max_roll_in_steps=jnp.int32(shrunk), guided_steps=jnp.int32(0)
    )
    return {
        'guide_share': guided / agent_steps,
        'max_roll_in_steps': float(max_steps),
    }


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def act_in_turns(
    student_actor: Actor,
    guide_network: nn.Module,
    roll_in_guide: bool,
    student_params: Any,
    guide_params: Any,
    observation: jax.Array,
    first: jax.Array,
    carry: Carry,
    epsilon: jax.Array,
    guide_prob: jax.Array,
    state: GuideState,
    act_key: jax.Array,
) -> tuple[jax.Array, Carry, jax.Array, GuideState]:
  """Actions of student and guide, each in its turn; see `Guide.act`.

  The guide's network runs only if the guide has a turn in some environment; the
  branch itself costs nothing, not even on a CPU.
  """
  state, guided = draw_turns(roll_in_guide, first, guide_prob, state)
  actions, carry, act_key = act(
      student_actor,
      student_params,
      observation,
      first,
      carry,
      epsilon,
      act_key,
      True,
  )

  def ask_guide() -> jax.Array:
    states = jnp.moveaxis(observation, 1, -1)
    out: Any = guide_network.apply({'params': guide_params}, states)
    return jnp.argmax(out.q_values, axis=-1).astype(jnp.int32)

  guides = jax.lax.cond(guided.any(), ask_guide, lambda: actions)
  return jnp.where(guided, guides, actions), carry, act_key, state


def draw_turns(
    roll_in_guide: bool,
    first: jax.Array,
    guide_prob: jax.Array,
    state: GuideState,
) -> tuple[GuideState, jax.Array]:
  """Draws the turns of one step.

  Args:
    roll_in_guide: True if the guide acts in roll-ins, else the student does.
    first: [E] bool, True where an episode begins with this step.
    guide_prob: [] probability of the guide after the roll-in.
    state: state after the last step; its key is consumed.

  Returns:
    The next state, and [E] bool, True where the guide acts.
  """
  rng_key, length_key, turn_key = jax.random.split(state.rng_key, 3)
  max_steps = state.max_roll_in_steps
  # h is in {1..H}; once H is 0 there is no roll-in.
  lengths = jax.random.randint(
      length_key, first.shape, jnp.minimum(1, max_steps), max_steps + 1
  )
  roll_in_steps = jnp.where(first, lengths, state.roll_in_steps)
  episode_steps = jnp.where(first, 0, state.episode_steps)
  rolls_in = episode_steps < roll_in_steps
  in_mixture = jax.random.uniform(turn_key, first.shape) < guide_prob
  guided = jnp.where(rolls_in, roll_in_guide, in_mixture)
  state = GuideState(
      episode_steps=episode_steps + 1,
      roll_in_steps=roll_in_steps,
      max_roll_in_steps=max_steps,
      guided_steps=state.guided_steps + guided.sum(dtype=jnp.int32),
      rng_key=rng_key,
  )
  return state, guided
