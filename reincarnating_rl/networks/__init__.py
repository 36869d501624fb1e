"""Networks: encoders, heads and whole Q-networks."""

from reincarnating_rl.networks.q_networks import DEFAULT_NUM_ATOMS
from reincarnating_rl.networks.q_networks import DEFAULT_V_MAX
from reincarnating_rl.networks.q_networks import DenseLayer
from reincarnating_rl.networks.q_networks import ImpalaEncoder
from reincarnating_rl.networks.q_networks import ImpalaStack
from reincarnating_rl.networks.q_networks import ImplicitQuantileHead
from reincarnating_rl.networks.q_networks import ImplicitQuantileNetwork
from reincarnating_rl.networks.q_networks import make_encoder
from reincarnating_rl.networks.q_networks import make_iqn_network
from reincarnating_rl.networks.q_networks import make_network
from reincarnating_rl.networks.q_networks import NatureEncoder
from reincarnating_rl.networks.q_networks import NoisyDense
from reincarnating_rl.networks.q_networks import QNetwork
from reincarnating_rl.networks.q_networks import ValueHead

__all__ = (
    'DEFAULT_NUM_ATOMS',
    'DEFAULT_V_MAX',
    'DenseLayer',
    'ImpalaEncoder',
    'ImpalaStack',
    'ImplicitQuantileHead',
    'ImplicitQuantileNetwork',
    'make_encoder',
    'make_iqn_network',
    'make_network',
    'NatureEncoder',
    'NoisyDense',
    'QNetwork',
    'ValueHead',
)
