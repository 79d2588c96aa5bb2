#!/usr/bin/env bash
# Submits stage 1 -> stage 2 -> evaluation -> its scores, each to start when the one before has succeeded, and prints
# the jobs' numbers. From the root of the checkout:
#   TRAIN_SBATCH="--nodes 2 --gpus-per-node 8 --time 48:00:00" EVAL_SBATCH="--gpus 1 --time 4:00:00" \
#   EVAL_ARGS="--data-root data --image-root data/coco/val2017 --dtype bfloat16" \
#     bash scripts/slurm/pipeline.sh --stage1 train/configs/locvlm_b_stage1.yaml \
#     --stage2 train/configs/locvlm_b_stage2.yaml --tasks "locpred,present absent revloc"
# Stage 2 is given stage 1's adapter, the evaluation stage 2's weights; the rest is as the configurations say. When a
# job fails, those after it are cancelled.
#
# Settings, as environment variable or option:
#   STAGE1  --stage1 FILE          configuration of stage 1
#   STAGE2  --stage2 FILE          and of stage 2
#   TASKS   --tasks "WORD ..."     as of eval_array.sbatch
#   STAGE1_ARGS, STAGE2_ARGS       overrides of the configurations: "--training.learning_rate 1e-5"
#   EVAL_ARGS                      options for eval/run.py
#   SHARDS                         as of eval_array.sbatch
#   SBATCH_ARGS                    options for sbatch, for all jobs: partition, account
#   TRAIN_SBATCH, EVAL_SBATCH      and for the stages, for the evaluation
# GPUS_PER_NODE, SETUP and SRUN_ARGS are those of train.sbatch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/slurm/common.sh

stage1=${STAGE1:-} stage2=${STAGE2:-} tasks=${TASKS:-}
while [ $# -gt 0 ]; do
  case $1 in
    --stage1) stage1=$2 ;;
    --stage2) stage2=$2 ;;
    --tasks) tasks=$2 ;;
    *) fail "pipeline.sh does not know $1" ;;
  esac
  shift 2
done
[ -n "$stage1" ] || fail "pipeline.sh needs the configuration of stage 1: --stage1 FILE"
[ -n "$stage2" ] || fail "pipeline.sh needs the configuration of stage 2: --stage2 FILE"
[ -n "$tasks" ] || fail 'pipeline.sh needs tasks: --tasks "locpred,present absent revloc"'

# words of several options in one variable; paths in them have no spaces
read -r -a args1 <<<"${STAGE1_ARGS:-}"
read -r -a args2 <<<"${STAGE2_ARGS:-}"
read -r -a args_eval <<<"${EVAL_ARGS:-}"
read -r -a words <<<"$tasks"
read -r -a common <<<"${SBATCH_ARGS:-}"
read -r -a for_train <<<"${TRAIN_SBATCH:-}"
read -r -a for_eval <<<"${EVAL_SBATCH:-}"

# the jobs have settings of their own; those that train.sbatch would read from here must not leak into both stages
unset STAGE CONFIG RUN MODEL OUTPUT_DIR
enter_environment
run1=$(run_folder 1 "$stage1" "${args1[@]}")
args2+=(--model.adapter "$run1/final")
run2=$(run_folder 2 "$stage2" "${args2[@]}")
[ "$run1" != "$run2" ] || fail "both stages would write to $run1; give one another training.output_dir"

submit() { # NAME JOB_BEFORE SBATCH_ARGUMENT ...: prints the name and the number, and sets `job`
  local after=()
  if [ -n "$2" ]; then
    after=(--dependency "afterok:$2" --kill-on-invalid-dep=yes)
  fi
  job=$(sbatch --parsable "${after[@]}" "${common[@]}" "${@:3}")
  job=${job%%;*}
  echo "$1 $job"
}
submit stage1 "" "${for_train[@]}" scripts/slurm/train.sbatch --stage 1 --config "$stage1" -- "${args1[@]}"
submit stage2 "$job" "${for_train[@]}" scripts/slurm/train.sbatch --stage 2 --config "$stage2" -- "${args2[@]}"
submit eval "$job" "${for_eval[@]}" --array "0-$((${#words[@]} * ${SHARDS:-1} - 1))" scripts/slurm/eval_array.sbatch \
  --model "$run2/final" --tasks "$tasks" --output-dir "$run2/eval" -- "${args_eval[@]}"
submit collect "$job" scripts/slurm/collect.sh "$run2/eval"
