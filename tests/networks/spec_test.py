"""Tests of networks as data: written, read, and the same network again."""

from __future__ import annotations

import json

from flax import linen as nn
import jax.numpy as jnp
import pytest

from reincarnating_rl import networks
from reincarnating_rl.networks import spec

NETWORKS = {
    'Nature DQN': networks.make_network(4),
    'Impala C51 dueling noisy': networks.make_network(
        18,
        'impala',
        num_atoms=51,
        noisy=True,
        dueling=True,
        distributional=True,
        v_max=7.5,
        stack_sizes=(4, 8),
        nn_scale=2,
        dtype=jnp.bfloat16,
    ),
    'Nature IQN': networks.make_iqn_network(
        3, 'nature', num_quantiles=8, features=(2, 3, 4)
    ),
}


class Linear(nn.Module):
  """A network of somebody else's."""

  num_actions: int
  activation: object = None


@pytest.mark.parametrize('label', NETWORKS)
def test_what_is_read_is_what_was_written(label):
  network = NETWORKS[label]
  text = json.dumps(spec.to_json(network))
  assert spec.from_json(json.loads(text)) == network
  assert spec.label(network) == label


def test_a_class_of_another_module_must_be_trusted():
  document = spec.to_json(Linear(5))
  assert document['class'] == f'{__name__}:Linear'
  with pytest.raises(spec.NetworkSpecError, match='not of this pack'):
    spec.from_json(document)
  read = spec.from_json(document, trusted=(__name__,))
  assert read == Linear(5)
  assert spec.label(read) == 'Linear'


@pytest.mark.parametrize(
    'document, message',
    [
        ({'class': 'NoSuchNetwork'}, 'no network called NoSuchNetwork'),
        ({'class': 'np'}, 'no network called np'),
        ({'class': 'os:system'}, 'not of this package'),
        ({'class': 'NatureEncoder', 'depth': 3}, 'NatureEncoder has changed'),
    ],
)
def test_unknown_classes_and_attributes_are_refused(document, message):
  with pytest.raises(spec.NetworkSpecError, match=message):
    spec.from_json(document)


def test_a_function_cannot_be_written():
  with pytest.raises(spec.NetworkSpecError, match='Linear.activation'):
    spec.to_json(Linear(5, nn.relu))
