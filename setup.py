"""Packaging of reincarnating_rl."""

import setuptools

# Each requirement with its reason; the ranges are those that the tests ran on.
REQUIREMENTS = [
    'absl-py>=2.1,<3',  # flags and logging of the entry points
    'ale-py>=0.12.1,<0.13',  # Atari, its ROMs, its C++ vector environment
    'chex>=0.1.92,<0.2',  # shape and type assertions of the core
    'cramjam>=2.8,<3',  # snappy, in the replay of Dopamine 4.1's teachers
    'dopamine-rl==4.1.2',  # the framework that this package extends
    'flax>=0.12.8,<0.13',  # networks (linen), msgpack of parameters
    'gin-config>=0.5,<0.6',  # configuration
    'google-crc32c>=1.5,<2',  # verifies downloads and checkpoints
    'gymnasium>=1.0,<2',  # interface of the vector environment
    'jax>=0.10.2,<0.13',  # everything numerical
    'matplotlib>=3.8,<4',  # learning curves
    'numpy>=2,<3',  # arrays on the host
    'optax>=0.2.8,<0.3',  # optimizers
    'orbax-checkpoint>=0.12,<0.13',  # replay of teachers
    'pyyaml>=6,<7',  # descriptions of sweeps
    # TensorFlow Probability imports it without declaring it: Dopamine's PPO.
    'setuptools>=65',
    'tensorboard>=2.20,<2.23',  # format of event files
    # A teacher's TensorFlow checkpoint; a run imports it for nothing else, and
    # starts where it is missing. Dopamine declares it, too.
    'tensorflow>=2.20,<2.23',
    'tensorstore>=0.1.80,<0.2',  # arrays of checkpoints
    'tqdm>=4.66,<5',  # progress bars
]

EXTRAS = {
    # GPU builds of jax.
    'cuda': ['jax[cuda12]>=0.10.2,<0.13'],
    'dev': [
        'av>=18,<19',  # films are tested
        'cryptography>=42',  # https of the tests' own storage server
        'gsutil==5.38',  # copies teachers in the tests as researchers do
        'import-linter>=2.11,<3',  # the order of the layers
        'ipykernel>=6.29,<8',  # runs the notebook, in a test
        'mypy>=2.1,<3',  # types are checked
        'nbclient>=0.10,<0.12',  # the same
        'nbformat>=5.10,<6',  # the same
        # arch 7, on which rliable stands, breaks on pandas 3.
        'pandas>=2.2,<3',
        'pyink==26.5.1',  # formatting, pinned: its output is checked
        'pytest>=8,<10',  # tests
        'pytest-xdist>=3.6,<4',  # two test processes
        'ray[tune]>=2.50,<3',  # sweeps are carried out in tests
        'rliable>=1.2,<1.3',  # intervals of reports are held against its own
        'ruff>=0.17,<0.18',  # lint
        'wandb>=0.20,<0.32',  # its logs are tested, offline
    ],
    # Carries out sweeps, here and on clusters.
    'launch': ['ray[tune]>=2.50,<3'],
    # MP4 of `evaluate --video`: no dependencies, half the size of what brings a
    # whole program (imageio-ffmpeg). Without it there is a GIF.
    'video': ['av>=18,<19'],
    # Logs at Weights & Biases beside those on the disk.
    'wandb': ['wandb>=0.20,<0.32'],
}

with open('README.md', encoding='utf-8') as f:
  LONG_DESCRIPTION = f.read()

setuptools.setup(
    name='reincarnating_rl',
    version='0.1.0',
    description='Start deep RL agents from what an earlier agent left.',
    long_description=LONG_DESCRIPTION,
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11,<3.14',
    packages=setuptools.find_packages(include=['reincarnating_rl*']),
    package_data={
        'reincarnating_rl': ['py.typed'],
        'reincarnating_rl.configs': ['*.gin'],
        'reincarnating_rl.teachers': [
            'bundled/*/*.json',
            'bundled/*/checkpoints/*',
        ],
    },
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
)
