"""What stands in TensorBoard's event files."""

from __future__ import annotations

import pathlib

from tensorboard.backend.event_processing import event_file_loader
from tensorboard.util import tensor_util


def scalars(directory) -> list[tuple[str, int, float]]:
  """Tags, steps and values of a folder, sorted, as TensorBoard reads them."""
  found = []
  for path in sorted(pathlib.Path(directory).glob('events.out.tfevents.*')):
    for event in event_file_loader.EventFileLoader(str(path)).Load():
      for value in event.summary.value:
        assert value.metadata.plugin_data.plugin_name == 'scalars'
        number = tensor_util.make_ndarray(value.tensor).item()
        found.append((value.tag, event.step, number))
  return sorted(found)
