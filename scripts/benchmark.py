"""Runs `benchmarks/benchmark.py` from any folder."""

import pathlib
import runpy
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
runpy.run_module('benchmarks.benchmark', run_name='__main__', alter_sys=True)
