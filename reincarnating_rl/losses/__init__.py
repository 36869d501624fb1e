"""Losses of value-based agents, each on one example."""

from reincarnating_rl.losses.value_losses import best_action_cross_entropy
from reincarnating_rl.losses.value_losses import categorical_cross_entropy
from reincarnating_rl.losses.value_losses import categorical_projection
from reincarnating_rl.losses.value_losses import categorical_target
from reincarnating_rl.losses.value_losses import cql_loss
from reincarnating_rl.losses.value_losses import elementwise_margin_loss
from reincarnating_rl.losses.value_losses import huber_loss
from reincarnating_rl.losses.value_losses import large_margin_loss
from reincarnating_rl.losses.value_losses import policy_distillation_kl
from reincarnating_rl.losses.value_losses import q_learning_target
from reincarnating_rl.losses.value_losses import quantile_huber_loss
from reincarnating_rl.losses.value_losses import value_distillation_loss

__all__ = (
    'best_action_cross_entropy',
    'categorical_cross_entropy',
    'categorical_projection',
    'categorical_target',
    'cql_loss',
    'elementwise_margin_loss',
    'huber_loss',
    'large_margin_loss',
    'policy_distillation_kl',
    'q_learning_target',
    'quantile_huber_loss',
    'value_distillation_loss',
)
