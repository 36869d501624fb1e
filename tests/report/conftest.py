"""Fixtures of the reports' tests."""

from __future__ import annotations

import pathlib

import pytest

from reincarnating_rl.report.figures import style


@pytest.fixture
def labels_of_figures(monkeypatch):
  """All texts of each figure, by name; files are empty, drawing is slow."""
  from matplotlib.text import Text

  texts = {}

  def save(figure, directory, name):
    # Lines are broken where room asks for it.
    texts[name] = {
        text.get_text().replace('\n', ' ') for text in figure.findobj(Text)
    }
    for kind in ('png', 'pdf'):
      (pathlib.Path(directory) / f'{name}.{kind}').write_bytes(b'')

  monkeypatch.setattr(style, 'save', save)
  return texts
