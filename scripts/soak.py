"""Runs `reliability/soak.py` from any folder."""

import pathlib
import runpy
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
runpy.run_module('reliability.soak', run_name='__main__', alter_sys=True)
