"""Learner: objective, gradient step, and many updates per call."""

from reincarnating_rl.base.schedules import Annealing
from reincarnating_rl.learner.diagnostics import diagnostics
from reincarnating_rl.learner.learner import LearnerState
from reincarnating_rl.learner.learner import ValueLearner
from reincarnating_rl.learner.many_updates import make_updater
from reincarnating_rl.learner.many_updates import UpdateMany
from reincarnating_rl.learner.objective import Coefficients
from reincarnating_rl.learner.objective import DISTILL_TYPES
from reincarnating_rl.learner.objective import MARGIN_TYPES
from reincarnating_rl.learner.objective import Objective
from reincarnating_rl.learner.objective import Term
from reincarnating_rl.learner.optimizers import adam_direction
from reincarnating_rl.learner.optimizers import rmsprop_direction
from reincarnating_rl.learner.policy import act
from reincarnating_rl.learner.policy import Policy
from reincarnating_rl.learner.policy import value_policy
from reincarnating_rl.learner.protocol import Learner
from reincarnating_rl.learner.protocol import UpdateExtra
from reincarnating_rl.learner.sampling import Sampler
from reincarnating_rl.learner.td import Categorical
from reincarnating_rl.learner.td import QLearning
from reincarnating_rl.learner.td import Quantile
from reincarnating_rl.learner.td import TD_LOSSES
from reincarnating_rl.learner.td import TDLoss

__all__ = (
    'act',
    'Categorical',
    'Policy',
    'QLearning',
    'Quantile',
    'Sampler',
    'TDLoss',
    'value_policy',
    'ValueLearner',
    'adam_direction',
    'Annealing',
    'Coefficients',
    'diagnostics',
    'DISTILL_TYPES',
    'Learner',
    'LearnerState',
    'make_updater',
    'MARGIN_TYPES',
    'Objective',
    'rmsprop_direction',
    'TD_LOSSES',
    'Term',
    'UpdateExtra',
    'UpdateMany',
)
