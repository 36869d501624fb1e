#!/usr/bin/env bash
# Reincarnates the bundled Pong teacher into a Rainbow student.
#
#   bash scripts/quickstart.sh [OUT]     (default: runs/quickstart)
#
# Installs into .venv first, if necessary. Ends with a table, OUT/summary.json and
# OUT/learning_curve.png. Run it again after an interruption: it resumes.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-runs/quickstart}
source "$repository/scripts/venv.sh"
use_venv

python -um reincarnating_rl.train --agent qdagger_rainbow \
  --gin_files quickstart.gin --base_dir "$out" \
  --teacher_checkpoint_dir bundled:Pong --run_number 1
python -m reincarnating_rl.show_run "$out"
