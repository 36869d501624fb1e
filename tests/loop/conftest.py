"""Fixtures of the tests of the loop."""

from __future__ import annotations

import pytest

from reincarnating_rl.loop.population import pbt_execution
from reincarnating_rl.loop.population import side_by_side


@pytest.fixture
def one_device(monkeypatch):
  """Runs side by side share the default device, as single runs have it.

  Programs of a chosen device would be compiled once more for it.
  """
  for module in (pbt_execution, side_by_side):
    monkeypatch.setattr(module, 'device_of', lambda *_: None)
