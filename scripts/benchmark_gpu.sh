#!/usr/bin/env bash
# Measures the GPU numbers of docs/performance.md with the current Python.
#
#   bash scripts/benchmark_gpu.sh OUT [MINUTES]
#
# Each finished group writes OUT/<group>.json, and is not measured again. After
# MINUTES (default 20) no further group starts. Peers need Dopamine beside this
# package (dopamine-rl, gin-config, python-snappy; TensorFlow is not needed).
set -euo pipefail

out=$(realpath -m "${1:?Usage: bash scripts/benchmark_gpu.sh OUT [MINUTES]}")
minutes=${2:-20}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$out"
export XLA_PYTHON_CLIENT_PREALLOCATE=false
end=$((SECONDS + 60 * minutes))

group() {
  local name=$1
  shift
  if [ -f "$out/$name.json" ]; then
    return
  fi
  if [ $SECONDS -ge $end ]; then
    echo "$name: no time left; run it again." >&2
    return
  fi
  echo "$name ..." >&2
  if timeout $((end - SECONDS)) python "$@" --json >"$out/$name.part"; then
    mv "$out/$name.part" "$out/$name.json"
  else
    echo "$name: not finished." >&2
  fi
}

some() {
  group "$1" scripts/benchmark.py --repeats 3 --seconds 0.3 --filter "$2"
}

group parts_nature -m benchmarks.profile_parts --repeats 5
group peers scripts/benchmark_peers.py --environments this --rounds 3 \
  --filter 'updates/c51/whole|online/(1_env|8_envs)$'
some members '^members/nature_c51/.*/(1|4|10|40)$'
some ratio_nature '^replay_ratio/nature_c51/8$'
some online_nature '^online/nature_c51/'
some updates_nature '^updates/nature_c51/update_many'
group parts_impala -m benchmarks.profile_parts --network impala_c51 --repeats 5
some ratio_impala '^replay_ratio/impala_c51/8$'
some updates_impala '^updates/impala_c51/update_many'
some updates_nature_bf16 '^updates/nature_c51_bf16/update_many'
some updates_impala_bf16 '^updates/impala_c51_bf16/update_many'
some population '^population/(1|10|40)/'
some members_all '^members/'
some online_all '^online/impala_c51/'
