"""Reads pickles from untrusted sources as data: nothing in them is called.

A pickle is a program. Here its opcodes only build records of the names that it
imports and the calls that it makes (`_Name`, `_Call`). A name that is not on
the list below is refused at once. Afterwards this module turns the records of
arrays and containers into numpy arrays and Python containers. Classes that may
no longer exist (flax, optax, jax) become inert `Record`s.

The unpickler is Python's own in Python, not the one in C: the latter sizes its
memo by a number in the file, and a damaged byte can make that gigabytes.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pickle
import re
import struct
from typing import Any, Callable, Iterable, Literal

import numpy as np

from reincarnating_rl.teachers.errors import TeacherError

# A checkpoint of 400 iterations with episode lists has fewer than 1e6 objects.
_MAX_OBJECTS = 20_000_000
_SIMPLE_DTYPE = re.compile(r'^[<>|=]?[biuf][1248]$')

_OPTAX_STATES = (
    'ApplyIfFiniteState',
    'EmptyState',
    'InjectHyperparamsState',
    'MaskedState',
    'ScaleByAdamState',
    'ScaleByRStdDevState',
    'ScaleByRmsState',
    'ScaleByRssState',
    'ScaleByScheduleState',
    'ScaleState',
    'TraceState',
)
_OPTAX_MODULES = (
    'optax._src.base',
    'optax._src.constrain',
    'optax._src.schedule',
    'optax._src.transform',
    'optax._src.wrappers',
    'optax.schedules._inject',
    'optax.transforms._accumulation',
    'optax.transforms._masking',
)
_FLAX_CLASSES = (
    'flax.core.frozen_dict.FrozenDict',
    'flax.nn.base.Model',
    'flax.optim.base.Optimizer',
    'flax.optim.base.OptimizerState',
    'flax.optim.adam.Adam',
    'flax.optim.adam._AdamHyperParams',
    'flax.optim.adam._AdamParamState',
    'flax.optim.rmsprop.RMSProp',
    'flax.optim.rmsprop._RMSPropHyperParams',
    'flax.optim.rmsprop._RMSPropParamState',
)
_RECONSTRUCT = (
    'numpy.core.multiarray._reconstruct',
    'numpy._core.multiarray._reconstruct',
)
_SCALAR = ('numpy.core.multiarray.scalar', 'numpy._core.multiarray.scalar')
_FROM_BUFFER = (
    'numpy.core.numeric._frombuffer',
    'numpy._core.numeric._frombuffer',
)
# Pickled jax arrays hold the parts of a numpy array, and data of jax.
_JAX_ARRAYS = (
    'jax._src.array._reconstruct_array',
    'jax._src.device_array.reconstruct_device_array',
    'jax.interpreters.xla.reconstruct_device_array',
)
_RECORDS = frozenset(
    [f'{m}.{s}' for m in _OPTAX_MODULES for s in _OPTAX_STATES]
    + list(_FLAX_CLASSES)
)


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
  """An object whose class is not needed, as data.

  Attributes:
    name: 'module.class'.
    args: arguments of its constructor; the fields of a NamedTuple.
    attributes: attributes of the object.
  """

  name: str
  args: tuple[Any, ...] = ()
  attributes: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def class_name(self) -> str:
    return self.name.rpartition('.')[2]


def loads(data: bytes, source: str) -> Any:
  """Reads a pickle.

  Args:
    data: bytes of the pickle.
    source: name of the file, for messages.

  Returns:
    Python containers, numbers, strings, numpy arrays, and `Record`s.

  Raises:
    TeacherError: if it is damaged, or names anything but the arrays, containers
      and optimizer states of a checkpoint.
  """
  try:
    return _Resolver().resolve(_Unpickler(io.BytesIO(data), source).load())
  except TeacherError:
    raise
  # A damaged pickle may raise anything.
  except Exception as e:
    reason = f'{type(e).__name__}: {e}'.split('\n')[0]
    raise TeacherError(
        f'{source} is damaged ({reason[:200]}): fetch it again from where it '
        'came from.'
    ) from e


class _Call:
  """A call in a pickle: name and arguments. It is never carried out."""

  __slots__ = ('name', 'args', 'state', 'items')

  def __init__(self, name: str, args: tuple[Any, ...]):
    self.name = name
    self.args = args
    self.state: Any = None
    self.items: list[Any] = []

  def append(self, item: Any) -> None:
    self.items.append(item)

  def extend(self, items: Iterable[Any]) -> None:
    self.items.extend(items)

  def __setitem__(self, key: Any, value: Any) -> None:
    self.items.append((key, value))


class _Name:
  """An allowed name; calling it only records the call."""

  __slots__ = ('name',)

  def __init__(self, name: str):
    self.name = name

  def __call__(self, *args: Any) -> _Call:
    return _Call(self.name, args)


# Python's unpickler in Python is private; type checkers take it for that in C.
_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
  """Builds `_Name`s and `_Call`s where Python's unpickler imports and calls."""

  dispatch = dict(_PythonUnpickler.dispatch)

  def __init__(self, file: io.BytesIO, source: str):
    super().__init__(file)
    self._source = source

  def find_class(self, module: str, name: str) -> _Name:
    module = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}.get(
        module, module
    )
    full = f'{module}.{name}'
    if full not in _ALLOWED:
      raise TeacherError(
          f'{self._source} is refused: it names {full}, which no checkpoint of '
          'Dopamine holds. Nothing of it was run; do not open it with other '
          'tools unless you trust who made it.'
      )
    return _Name(full)

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError('it refers to objects outside of the file')

  def _load_new(self) -> None:
    args = self.stack.pop()
    self.stack[-1] = _as_name(self.stack[-1])(*args)

  dispatch[pickle.NEWOBJ[0]] = _load_new
  dispatch[pickle.REDUCE[0]] = _load_new

  def _load_new_ex(self) -> None:
    raise pickle.UnpicklingError('it makes objects with keyword arguments')

  dispatch[pickle.NEWOBJ_EX[0]] = _load_new_ex

  def _load_build(self) -> None:
    state = self.stack.pop()
    if not isinstance(self.stack[-1], _Call):
      raise pickle.UnpicklingError('it sets the state of what has none')
    self.stack[-1].state = state

  dispatch[pickle.BUILD[0]] = _load_build

  def _load_bytearray(self) -> None:
    # Python's version allocates the declared size before it reads.
    (length,) = struct.unpack('<Q', self.read(8))
    self.append(self.read(length))

  dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray


def _as_name(value: Any) -> _Name:
  if not isinstance(value, _Name):
    raise pickle.UnpicklingError(f'it calls a {type(value).__name__}')
  return value


class _Resolver:
  """Turns the records of the unpickler into data.

  Shared objects are turned once, so that a small file cannot become a large
  tree. An object that contains itself is refused.
  """

  def __init__(self) -> None:
    self._done: dict[int, Any] = {}
    self._open: set[int] = set()

  def resolve(self, value: Any) -> Any:
    if not isinstance(value, (list, tuple, dict, set, frozenset, _Call, _Name)):
      return value
    key = id(value)
    if key in self._done:
      return self._done[key]
    if key in self._open:
      raise ValueError('an object contains itself')
    if len(self._done) > _MAX_OBJECTS:
      raise ValueError(f'more than {_MAX_OBJECTS} objects')
    self._open.add(key)
    result = self._resolve(value)
    self._open.remove(key)
    self._done[key] = result
    return result

  def _resolve(self, value: Any) -> Any:
    if isinstance(value, dict):
      return {self.resolve(k): self.resolve(v) for k, v in list(value.items())}
    if isinstance(value, (list, tuple, set, frozenset)):
      return type(value)(self.resolve(item) for item in value)
    if isinstance(value, _Name):
      return Record(value.name)
    return _ALLOWED[value.name](
        value.name,
        self.resolve(value.args),
        self.resolve(value.state),
        self.resolve(value.items),
    )


# -- values of the allowed names: (name, args, state, items) -> value ----------


def _record(name: str, args: tuple, state: Any, items: list) -> Record:
  del items
  return Record(name, args, _attributes(state))


def _attributes(state: Any) -> dict[str, Any]:
  """Returns the attributes in a state: a dict, or (dict, dict of slots)."""
  if isinstance(state, tuple) and len(state) == 2:
    return _attributes(state[0]) | _attributes(state[1])
  return state if isinstance(state, dict) else {}


def _frozen_dict(name: str, args: tuple, state: Any, items: list) -> dict:
  del name, items
  inner = args[0] if args else _attributes(state)['_dict']
  return dict(inner)


def _list(name: str, args: tuple, state: Any, items: list) -> list:
  del name, state
  # Arguments of a deque are (), or its items and its bound.
  return list(args[0] if args else ()) + items


def _tuple(name: str, args: tuple, state: Any, items: list) -> tuple:
  return tuple(_list(name, args, state, items))


def _set(name: str, args: tuple, state: Any, items: list) -> set:
  return set(_list(name, args, state, items))


def _mapping(name: str, args: tuple, state: Any, items: list) -> dict:
  del name, state
  first = args[0] if args else ()
  if isinstance(first, Record):  # The factory of a defaultdict.
    first = ()
  return dict(first) | dict(items)


def _bytes(name: str, args: tuple, state: Any, items: list) -> bytes:
  """Decodes bytes, which protocols before 3 write as text in latin1."""
  del name, state, items
  text, encoding = args
  if encoding != 'latin1' or not isinstance(text, str):
    raise ValueError(f'text encoded as {encoding!r}')
  return text.encode('latin1')


def _no_bytes(name: str, args: tuple, state: Any, items: list) -> bytes:
  """Decodes empty bytes: a call without arguments in protocols before 3."""
  del name, state, items
  if args:
    raise ValueError('bytes made of something else')
  return b''


def _reconstructed(name: str, args: tuple, state: Any, items: list) -> Record:
  """Makes a record of copyreg's arguments (class, object, None)."""
  del name, items
  return Record(args[0].name, (), _attributes(state))


def _dtype(name: str, args: tuple, state: Any, items: list) -> np.dtype | None:
  """Returns a dtype of plain numbers, or None for objects."""
  del name, items
  code = str(args[0])
  if code in ('O', 'O8', '|O'):
    return None
  if not _SIMPLE_DTYPE.match(code):
    raise ValueError(f'an array of dtype {code[:40]!r}')
  dtype = np.dtype(code)
  order: Any = state[1] if isinstance(state, tuple) and len(state) > 1 else '='
  return dtype.newbyteorder(order if order in ('<', '>') else '=')


def _array(name: str, args: tuple, state: Any, items: list) -> Any:
  """Makes an array of (version, shape, dtype, Fortran order, raw bytes)."""
  del name, args, items
  _, shape, dtype, fortran_order, raw = state
  if dtype is None:  # An array of objects is a list of them.
    return list(raw)
  return _shaped(raw, dtype, shape, 'F' if fortran_order else 'C')


def _shaped(
    raw: Any, dtype: Any, shape: Any, order: Literal['C', 'F']
) -> np.ndarray:
  if not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, np.dtype):
    raise ValueError('an array without bytes')
  if not all(isinstance(size, int) and size >= 0 for size in shape):
    raise ValueError(f'an array of shape {shape}')
  if math.prod(shape) * dtype.itemsize != len(raw):
    raise ValueError(f'an array of shape {shape} in {len(raw)} bytes')
  return np.frombuffer(raw, dtype).reshape(shape, order=order)


def _from_buffer(name: str, args: tuple, state: Any, items: list) -> Any:
  del name, state, items
  raw, dtype, shape, order = args
  return _shaped(raw, dtype, shape, 'F' if order == 'F' else 'C')


def _scalar(name: str, args: tuple, state: Any, items: list) -> Any:
  del name, state, items
  dtype, raw = args
  return _shaped(raw, dtype, (), 'C')[()]


def _jax_array(name: str, args: tuple, state: Any, items: list) -> Any:
  del state
  reconstruct, _, array_state = args[:3]
  if not isinstance(reconstruct, Record) or (
      reconstruct.name not in _RECONSTRUCT
  ):
    raise ValueError('a jax array that is not made of a numpy array')
  return _array(name, (), array_state, items)


_ALLOWED: dict[str, Callable[[str, tuple, Any, list], Any]] = (
    dict.fromkeys(_RECORDS, _record)
    | dict.fromkeys(_RECONSTRUCT, _array)
    | dict.fromkeys(_FROM_BUFFER, _from_buffer)
    | dict.fromkeys(_SCALAR, _scalar)
    | dict.fromkeys(_JAX_ARRAYS, _jax_array)
    | {
        '_codecs.encode': _bytes,
        'builtins.bytes': _no_bytes,
        'builtins.dict': _mapping,
        'builtins.frozenset': _set,
        'builtins.list': _list,
        'builtins.object': _record,
        'builtins.set': _set,
        'builtins.tuple': _tuple,
        'collections.OrderedDict': _mapping,
        'collections.defaultdict': _mapping,
        'collections.deque': _list,
        'copyreg._reconstructor': _reconstructed,
        'flax.core.frozen_dict.FrozenDict': _frozen_dict,
        'numpy.dtype': _dtype,
        'numpy.ndarray': _record,
    }
)
