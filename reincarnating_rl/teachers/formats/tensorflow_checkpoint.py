"""Variables of a TensorFlow checkpoint; only this module imports TensorFlow.

tf_ckpt-<N>.index, tf_ckpt-<N>.data-00000-of-00001, tf_ckpt-<N>.meta
"""

from __future__ import annotations

import glob
import math
import os
import re

import numpy as np

from reincarnating_rl.teachers.errors import TeacherError


def checkpoint_numbers(folder: str, prefix: str) -> list[int]:
  """Lists the numbers of the checkpoints in a folder, ascending."""
  pattern = re.compile(rf'^{re.escape(prefix)}-(\d+)\.index$')
  matches = (pattern.match(name) for name in os.listdir(folder))
  return sorted(int(m.group(1)) for m in matches if m)


def read_variables(
    folder: str, prefix: str, number: int
) -> dict[str, np.ndarray]:
  """Reads the variables of both networks; optimizer slots are left out.

  Args:
    folder: folder of the checkpoint.
    prefix: prefix of its files.
    number: number of the checkpoint.

  Raises:
    TeacherError: if TensorFlow is not installed, or the files are damaged.
  """
  path = os.path.join(folder, f'{prefix}-{number}')
  try:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    import tensorflow as tf
  except ImportError as e:
    raise TeacherError(
        f'{path} is a TensorFlow checkpoint, and TensorFlow is not installed: '
        'pip install tensorflow.'
    ) from e
  data_size = sum(os.path.getsize(f) for f in glob.glob(f'{path}.data-*'))
  try:
    reader = tf.train.load_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
    variables = {}
    for name, shape in shapes.items():
      if not name.startswith(('Online/', 'Target/')):
        continue
      if name.count('/') != 2 or not dtypes[name].is_floating:
        continue
      if math.prod(shape) * dtypes[name].size > data_size:
        raise ValueError(f'{name} of shape {shape} is larger than its file')
      variables[name] = np.asarray(reader.get_tensor(name))
  # For damaged files TensorFlow raises its own errors and Python's.
  except Exception as e:
    reason = str(e).split('\n')[0][:200]
    raise TeacherError(
        f'{path} is damaged ({reason}): fetch its .index and .data files again '
        'from where they came from.'
    ) from e
  return variables
