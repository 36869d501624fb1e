"""Gin files: found anywhere, included, and refused in a sentence."""

import gin
import pytest

from reincarnating_rl.dopamine_bridge import gin_files
from reincarnating_rl.runners import runner as _  # noqa: F401, registers names


@pytest.mark.parametrize(
    'prefix', ['', 'configs/', 'reincarnating_rl/configs/']
)
def test_shipped_configs_resolve_from_any_directory(
    prefix, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  gin_files.parse([prefix + 'qdagger_dqn.gin'], [])
  assert gin.query_parameter('JaxDQNAgent.update_horizon') == 3
  assert gin.query_parameter('Runner.training_steps') == 250000  # included


def test_file_of_the_user_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'dqn.gin').write_text('Runner.training_steps = 7\n')
  gin_files.parse(['dqn.gin'], [])
  assert gin.query_parameter('Runner.training_steps') == 7


def test_bindings_win():
  gin_files.parse(['dqn.gin'], ['Runner.training_steps = 8'])
  assert gin.query_parameter('Runner.training_steps') == 8


def test_missing_file_names_those_that_are_shipped():
  with pytest.raises(gin_files.GinError, match='nope.gin .* dqn.gin'):
    gin_files.parse(['nope.gin'], [])


def test_missing_include_is_named(tmp_path):
  file = tmp_path / 'a.gin'
  file.write_text("include 'nope.gin'\n")
  with pytest.raises(gin_files.GinError, match='nope.gin'):
    gin_files.parse([str(file)], [])


def test_circular_include_is_named(tmp_path):
  file = tmp_path / 'a.gin'
  file.write_text(f"include '{file}'\n")
  with pytest.raises(gin_files.GinError, match='includes itself'):
    gin_files.parse([str(file)], [])


@pytest.mark.parametrize(
    'binding',
    [
        'NoSuchThing.x = 1',
        'Runner.no_such_parameter = 1',
        'Runner.training_steps = ',
        'Runner.training_steps 3',
        'JaxDQNAgent.network = @NoSuchNetwork',
    ],
)
def test_binding_that_does_not_resolve_is_named(binding):
  with pytest.raises(gin_files.GinError) as error:
    gin_files.parse([], [binding])
  assert repr(binding) in str(error.value)
  assert '\n' not in str(error.value)


def test_lost_imports_are_skipped_and_others_are_not(tmp_path):
  file = tmp_path / 'a.gin'
  file.write_text(
      'import dopamine.replay_memory.circular_replay_buffer\n'
      'import reincarnating_rl.persistence_losses\n'
      'Runner.training_steps = 9\n'
  )
  gin_files.parse([str(file)], [])
  assert gin.query_parameter('Runner.training_steps') == 9
  file.write_text('import no_such_package_anywhere\n')
  with pytest.raises(gin_files.GinError, match='no_such_package_anywhere'):
    gin_files.parse([str(file)], [])
