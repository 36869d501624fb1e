"""Fixtures of the launch tests: one Ray for all, and a stand-in for `train`."""

import contextlib

import launched_trials
import pytest

from reincarnating_rl.base import errors
from reincarnating_rl.launch import engine
from reincarnating_rl.launch import process

# Ray gives up after 30 seconds, in which a busy machine does not start it.
_STARTS = 20


@pytest.fixture(scope='session')
def ray():
  """Ray on this machine, to which other processes may connect."""
  found = engine.import_ray()
  with contextlib.ExitStack() as stack:
    for attempt in range(_STARTS):
      try:
        stack.enter_context(engine.connected(engine.Resources()))
        break
      except errors.UserError:
        if attempt + 1 == _STARTS:
          raise
    yield found


@pytest.fixture(scope='session')
def program(tmp_path_factory):
  return launched_trials.stand_in(tmp_path_factory.mktemp('stand_in'))


@pytest.fixture
def stand_in(program, monkeypatch):
  """Lets trials run the stand-in, with short pauses."""
  monkeypatch.setattr(process, 'PROGRAM', program)
  monkeypatch.setattr(engine, '_SECONDS_BETWEEN_LOOKS', 0.1)
