"""Runs `reliability/soak.py`, kept under the path that users know."""

import pathlib
import runpy
import sys

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'reliability'
sys.path[0] = str(_FOLDER)
runpy.run_path(str(_FOLDER / 'soak.py'), run_name='__main__')
