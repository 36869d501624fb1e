"""Runs `benchmarks/benchmark_peers.py`, kept under the path that users know."""

import pathlib
import runpy
import sys

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'benchmarks'
sys.path[0] = str(_FOLDER)
runpy.run_path(str(_FOLDER / 'benchmark_peers.py'), run_name='__main__')
