"""Addresses, and which names of objects may become files."""

import pytest

from reincarnating_rl.storage.gcs import address as addresses
from reincarnating_rl.storage.gcs.address import Address
from reincarnating_rl.storage.gcs.errors import BucketError


@pytest.mark.parametrize(
    ('url', 'bucket', 'path'),
    [
        ('gs://rl_checkpoints', 'rl_checkpoints', ''),
        ('gs://rl_checkpoints/', 'rl_checkpoints', ''),
        ('gs://b.c-d/DQN_400/Pong/1', 'b.c-d', 'DQN_400/Pong/1'),
        ('gs://abc/DQN_400/Pong/1/', 'abc', 'DQN_400/Pong/1'),
    ],
)
def test_addresses_are_read(url, bucket, path):
  address = addresses.parse(url)
  assert address == Address(bucket, path)
  assert str(address) == url.rstrip('/')


@pytest.mark.parametrize(
    'url',
    [
        's3://abc/x',
        '/local/path',
        'gs://',
        'gs:///x',
        'gs://A B/x',
        'gs://abc//x',
        'gs://abc/x//',
        'gs://abc/../x',
        'gs://abc/x*',
        'gs://abc/x[1]',
        'gs://abc/x#1',
        'gs://abc/x\n',
    ],
)
def test_other_addresses_are_refused_by_name(url):
  with pytest.raises(BucketError) as error:
    addresses.parse(url)
  assert repr(url) in str(error.value)


def test_parents_and_children():
  address = addresses.parse('gs://abc/DQN_400')
  assert address.child('Pong').path == 'DQN_400/Pong'
  assert address.child('Pong').parent() == address
  root = address.parent()
  assert root == Address('abc', '') and root.prefix == ''
  assert root.child('x') == Address('abc', 'x')
  assert root.parent() is None


@pytest.mark.parametrize(
    'name', ['ckpt.1', '$store$_action_ckpt.1.gz', 'a b/c', '..a/b..', 'é/ü']
)
def test_plain_names(name):
  assert addresses.fault_of(name) is None


@pytest.mark.parametrize(
    ('name', 'fault'),
    [
        ('..', 'part'),
        ('a/../../b', 'part'),
        ('./a', 'part'),
        ('/etc/passwd', 'begins with a slash'),
        ('', 'empty'),
        ('a//b', 'empty'),
        ('a/', 'empty'),
        ('a\\..\\b', 'backslash'),
        ('a\0b', 'unprintable'),
        ('a\nb', 'unprintable'),
        ('a\x1b[2Jb', 'unprintable'),
        ('a\udcffb', 'unprintable'),
        ('é' * 128, '255 bytes'),
    ],
)
def test_names_that_lead_elsewhere(name, fault):
  assert fault in addresses.fault_of(name)


def test_enumerations():
  assert addresses.enumerate_names([10, 9, 1]) == '1, 9, 10'
  assert addresses.enumerate_names([]) == 'nothing'
  many = addresses.enumerate_names(range(400))
  assert many.startswith('0, 1, ') and many.endswith(', 398, 399')
  assert len(many) < 80


def test_nearest_names():
  games = ['Breakout', 'Pong', 'MsPacman']
  assert addresses.nearest('Breakot', games) == ' Did you mean Breakout?'
  assert addresses.nearest('mspacman', games) == ' Did you mean MsPacman?'
  assert addresses.nearest('xyz', games) == ''
