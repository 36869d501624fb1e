"""A method that is not in the paper: match the teacher's largest value."""

import gin

from reincarnating_rl.agents.dqn import ReincarnationDQNAgent
from reincarnating_rl.agents.methods import Method
from reincarnating_rl.learner import Term


def value_matching_loss(online, batch, coefficients):
  """[B] squared distances between the largest values."""
  del coefficients
  return (online.q_values.max(-1) - batch.q_teacher.max(-1)) ** 2


@gin.configurable
class ValueMatchingAgent(ReincarnationDQNAgent):
  """Q-learning with that term, falling with lambda."""

  needs_teacher = True
  pretrains = True

  def method(self) -> Method:
    weight = lambda coefficients: coefficients.lambda_
    term = Term('value_matching_loss', value_matching_loss, weight, True)
    return Method(self.objective(extra=(term,)))
