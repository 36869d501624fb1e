"""Where the repository's folders lie."""

import pathlib

TESTS = pathlib.Path(__file__).resolve().parents[1]
HELPERS = TESTS / 'helpers'
TESTDATA = TESTS / 'testdata'
ROOT = TESTS.parent
