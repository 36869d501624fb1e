#!/usr/bin/env bash
# Lint, formatting and tests; installs into .venv first, if necessary.
#
#   bash scripts/test.sh [pytest arguments]
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
source scripts/venv.sh
use_venv

ruff check .
lint-imports --no-logo
mypy
pyink --check --quiet .
# Tests of one file share compiled code: each process has half of the files, and
# the one that is done takes over files of the other.
python -m pytest -n 2 --dist worksteal "${@:-tests}"
