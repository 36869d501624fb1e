"""Metrics of learning besides the losses; computed only here."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from reincarnating_rl import losses
from reincarnating_rl.base.types import TransitionBatch
from reincarnating_rl.learner.td import select_action


def diagnostics(
    q_tm1: jax.Array, batch: TransitionBatch, temperature: jax.Array
) -> dict[str, jax.Array]:
  """Computes unweighted means over the batch.

  Args:
    q_tm1: [B, A] online Q-values.
    batch: B transitions.
    temperature: tau of the softmax policies.

  Returns:
    A dict of [] float32 metrics:
      'q': value of the action in the data.
      'max_q': largest value.
      'action_gap': difference of the two largest values; missing if A = 1.
      'teacher_agreement': share of states in which student and teacher have
        the same greedy action.
      'teacher_kl': KL(teacher || student) at this temperature.
    The last two are there only if the batch holds the teacher's Q-values.
  """
  metrics = {
      'q': jnp.mean(select_action(q_tm1, batch.a_tm1)),
      'max_q': jnp.mean(q_tm1.max(axis=-1)),
  }
  if q_tm1.shape[-1] > 1:
    top = jax.lax.top_k(q_tm1, 2)[0]
    metrics['action_gap'] = jnp.mean(top[:, 0] - top[:, 1])
  if batch.q_teacher is not None:
    same = q_tm1.argmax(axis=-1) == batch.q_teacher.argmax(axis=-1)
    metrics['teacher_agreement'] = jnp.mean(same.astype(jnp.float32))
    kl = jax.vmap(losses.policy_distillation_kl, in_axes=(0, 0, None))
    metrics['teacher_kl'] = jnp.mean(kl(batch.q_teacher, q_tm1, temperature))
  return metrics
