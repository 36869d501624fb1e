"""Pickles of strangers: read as data, refused by name, never run."""

import collections
import os
import pickle
import pickletools

import numpy as np
from paths import TESTDATA
import pytest

from reincarnating_rl.teachers.errors import TeacherError
from reincarnating_rl.teachers.formats import safe_pickle

LEGACY = ('dopamine_315_prelinen', 'dopamine_402_jax03', 'dopamine_406_small')


def roundtrip(value, protocol=4):
  return safe_pickle.loads(pickle.dumps(value, protocol), 'a file')


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'array',
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.array(3.5),
        np.array([], np.uint8),
        np.array([True, False]),
        np.arange(3, dtype='>i4'),
    ],
    ids=lambda a: f'{a.dtype.str}{a.shape}',
)
def test_arrays_of_every_protocol(array, protocol):
  got = roundtrip(array, protocol)
  assert got.dtype == array.dtype
  np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_and_scalars(protocol):
  value = {
      'list': [1, 2.5, None, 'text', b'bytes', True],
      'tuple': (1, (2, 3)),
      'set': {np.int64(3), np.int64(4)},
      'ordered': collections.OrderedDict(a=1, b=2),
      'default': collections.defaultdict(list, {'x': [1]}),
      'deque': collections.deque([1, 2, 3], maxlen=5),
      'scalar': np.float32(1.5),
      'large': 2**70,
  }
  got = roundtrip(value, protocol)
  assert got == value | {'deque': [1, 2, 3]}
  assert isinstance(got['scalar'], np.float32)


def test_arrays_of_objects_become_lists():
  assert roundtrip(np.array([None, {'a': 1}], object)) == [None, {'a': 1}]


def test_jax_arrays_become_numpy_arrays():
  import jax.numpy as jnp

  got = roundtrip({'x': jnp.arange(4.0)})['x']
  assert type(got) is np.ndarray and got.dtype == np.float32
  np.testing.assert_array_equal(got, [0, 1, 2, 3])


def test_optimizer_states_become_inert_records():
  import jax.numpy as jnp
  import optax

  optimizer = optax.chain(optax.scale_by_adam(), optax.scale(1.0))
  state = optimizer.init({'w': jnp.ones(2)})
  adam, empty = roundtrip(state)
  assert (adam.class_name, len(adam.args)) == ('ScaleByAdamState', 3)
  assert empty.class_name in ('EmptyState', 'ScaleState')
  np.testing.assert_array_equal(adam.args[1]['w'], [0, 0])


def test_frozen_dicts_become_dicts():
  from flax.core import freeze

  got = roundtrip({'p': freeze({'a': {'b': np.ones(1)}})})
  assert type(got['p']) is dict and type(got['p']['a']) is dict


def test_shared_objects_stay_shared_and_cheap():
  value = ['leaf']
  for _ in range(60):  # Unfolded it would have 2^60 leaves.
    value = [value, value]
  got = roundtrip(value)
  assert got[0] is got[1]


# -- what is refused -----------------------------------------------------------

TOUCHED = []


class Evil:
  """What an attacker pickles: unpickling it would call something."""

  def __init__(self, function, *args):
    self._call = function, args

  def __reduce__(self):
    return self._call


def _touch(*args):
  TOUCHED.append(args)


class WithState:

  def __setstate__(self, state):
    TOUCHED.append(state)

  def __getstate__(self):
    return {'a': 1}


class ArrayWithEvilState(np.ndarray):
  """Looks like an array; its state holds the attack."""

  def __reduce__(self):
    make, args, _ = np.ones(1, object).__reduce__()
    state = (1, (1,), np.dtype(object), False, [Evil(os.system, 'true')])
    return make, args, state


ATTACKS = {
    'os.system': lambda: Evil(os.system, 'touch {path}'),
    'eval': lambda: Evil(eval, 'open({path!r}, "w")'),
    'exec': lambda: Evil(exec, 'open({path!r}, "w")'),
    'reduce': lambda: Evil(_touch, 1),
    'setstate': WithState,
    'in an array': lambda: np.ones(1).view(ArrayWithEvilState),
    'in a dict': lambda: {'online_params': [({'a': Evil(os.system, 'true')},)]},
    'getattr': lambda: Evil(getattr, 'x', 'y'),
    'numpy': lambda: Evil(np.load, '{path}'),
    'numpy fromfile': lambda: Evil(np.fromfile, '{path}'),
    'class': lambda: Evil(Evil, os.system),
}


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
@pytest.mark.parametrize('name', ATTACKS)
def test_attacks_are_refused_by_name_and_nothing_runs(name, protocol, tmp_path):
  trap = tmp_path / 'touched'
  blob = pickle.dumps(ATTACKS[name](), protocol)
  blob = blob.replace(b'{path}', str(trap).encode())
  with pytest.raises(TeacherError, match=r'is refused: it names \w[\w.]*, '):
    safe_pickle.loads(blob, 'ckpt.1')
  assert not TOUCHED and not trap.exists()


@pytest.mark.parametrize(
    'program',
    [
        b'cos\nsystem\n(S"true"\ntR.',  # GLOBAL and REDUCE
        b'(S"true"\nios\nsystem\n.',  # INST
        b'(cos\nsystem\nS"true"\no.',  # OBJ
        b'\x80\x02\x82\x01.',  # EXT1
        b'Pid\n.',  # PERSID
        b'\x80\x04\x8c\x08builtins\x8c\x0cobject.__new__\x93.',  # dotted
        b'\x80\x04\x8c\x05numpy\x8c\x0elib.npyio.load\x93.',
        b'c__builtin__\neval\n.',
        b'\x80\x02cnumpy\ndtype\n}S"__call__"\nK\x01sb.',  # BUILD on a class
        b'\x80\x02cnumpy\ndtype\n)}\x92.',  # NEWOBJ_EX
        b'\x80\x02]K\x01\x85R.',  # calls a list
    ],
)
def test_every_opcode_that_could_run_something(program):
  with pytest.raises(TeacherError):
    safe_pickle.loads(program, 'ckpt.1')


def test_a_jax_array_cannot_smuggle_another_constructor():
  program = pickletools.optimize(
      b'\x80\x02cjax._src.array\n_reconstruct_array\n'
      b'(cnumpy\ndtype\n)(K\x01)X\x02\x00\x00\x00f4\x89C\x00t}t\x52.'
  )
  with pytest.raises(TeacherError, match='not made of a numpy array'):
    safe_pickle.loads(program, 'ckpt.1')


def test_something_that_contains_itself():
  value = []
  value.append((value,))
  with pytest.raises(TeacherError, match='contains itself'):
    roundtrip(value)


def test_deep_nesting_is_an_error_and_no_crash():
  with pytest.raises(TeacherError, match='RecursionError'):
    safe_pickle.loads(b'\x80\x04' + b']' * 200_000 + b'a' * 199_999 + b'.', 'f')


@pytest.mark.parametrize(
    'program',
    [
        b'\x80\x04\x8e' + (2**40).to_bytes(8, 'little') + b'.',  # BINBYTES8
        b'\x80\x05\x96' + (2**40).to_bytes(8, 'little') + b'.',  # BYTEARRAY8
        b'\x80\x04\x95' + (2**40).to_bytes(8, 'little') + b'.',  # FRAME
        b'\x80\x02Nr\xff\xff\xff\xff.',  # LONG_BINPUT
    ],
)
def test_sizes_in_a_file_allocate_nothing(program):
  import resource

  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  try:
    safe_pickle.loads(program, 'ckpt.1')
  except TeacherError:
    pass
  grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert grown < 50_000  # KiB


def test_arrays_larger_than_their_bytes():
  blob = pickle.dumps(np.ones(4, np.float32), 2)
  huge = blob.replace(b'K\x04\x85', b'J\xff\xff\xff\x7f\x85')
  assert huge != blob
  with pytest.raises(TeacherError, match='is damaged'):
    safe_pickle.loads(huge, 'ckpt.1')


@pytest.mark.parametrize('folder', LEGACY)
def test_mutated_checkpoints_are_read_or_refused(folder):
  """Bit flips and truncations: data or one clear sentence, nothing else."""
  blob = (TESTDATA / folder / 'checkpoints' / 'ckpt.1').read_bytes()
  # Most bytes are weights; the interesting ones are between them.
  structure = [pos for _, _, pos in pickletools.genops(blob)]
  rng = np.random.default_rng(0)
  outcomes = collections.Counter()
  for i in range(350):
    mutated = bytearray(blob)
    if i % 5 == 0:
      del mutated[rng.integers(len(blob)) :]
    else:
      for _ in range(rng.integers(1, 4)):
        near = int(rng.choice(structure)) + int(rng.integers(3))
        anywhere = int(rng.integers(len(blob)))
        at = near if rng.random() < 0.8 else anywhere
        mutated[min(at, len(blob) - 1)] ^= 1 << int(rng.integers(8))
    try:
      safe_pickle.loads(bytes(mutated), 'ckpt.1')
      outcomes['read'] += 1
    except TeacherError as e:
      assert 'ckpt.1' in str(e) and '\n' not in str(e)
      outcomes['refused'] += 1
  assert outcomes['refused'] > 100
