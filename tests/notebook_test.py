"""The notebook: stored without outputs, and runs from top to bottom."""

from __future__ import annotations

import os

import nbclient
import nbformat
from paths import ROOT
import pytest

NOTEBOOK = ROOT / 'colab' / 'reincarnating_rl.ipynb'


@pytest.fixture(name='notebook')
def _notebook():
  return nbformat.read(NOTEBOOK, as_version=4)


def _code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def test_no_outputs_are_stored(notebook):
  nbformat.validate(notebook)
  for cell in _code(notebook):
    assert cell.outputs == [] and cell.execution_count is None


def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
  path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
  monkeypatch.setenv('PYTHONPATH', path)
  monkeypatch.setenv('REINCARNATING_RL_QUICK', '1')
  client = nbclient.NotebookClient(
      notebook,
      timeout=300,
      kernel_name='python3',
      resources={'metadata': {'path': str(tmp_path)}},
  )
  client.execute()
  shown = {
      line: [kind for output in cell.outputs for kind in output.get('data', ())]
      for cell in _code(notebook)
      for line in cell.source.splitlines()[-1:]
  }
  assert 'image/png' in shown['Image(figure)']
  assert 'image/png' in shown['run.plot()']
  assert 'image/png' in shown['plt.show()']
  assert 'image/gif' in shown["Image(evaluation['video']['gif'])"]
  runs = tmp_path / 'reincarnating_rl_notebook'
  assert (runs / 'qdagger' / 'summary.json').is_file()
  assert (runs / 'dqn' / 'summary.json').is_file()
  assert list((runs / 'video').glob('*.gif'))
