#!/usr/bin/env bash
# Makes one evaluation of what an array left: OUT/parts/*/predictions -> OUT/predictions, OUT/scores.json.
#   bash scripts/slurm/collect.sh OUT
#SBATCH --job-name=locvlm-collect
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --output=slurm-%x-%j.out
set -euo pipefail
out=${1:?usage: bash scripts/slurm/collect.sh OUT}
source scripts/slurm/common.sh
enter_environment
[ -d "$out/parts" ] || fail "no $out/parts: run scripts/slurm/eval_array.sbatch with --output-dir $out first"
mkdir -p "$out/predictions"
cp "$out"/parts/*/predictions/* "$out/predictions/"
exec python eval/score.py --output-dir "$out"
