#!/usr/bin/env bash
# Environment, linters, types, tests: everything a change has to pass.
#   bash scripts/test.sh                    all but the slow tests, and those that need a SLURM
#   bash scripts/test.sh --slow             the slow ones too
#   bash scripts/test.sh tests/test_io.py   the checks, and only these tests (any pytest arguments)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup_env.sh
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

selection=(-m "not slow and not slurm")
if [ "${1:-}" = --slow ]; then
  selection=(-m "not slurm")
  shift
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Two processes, each a thread; a file's tests stay together because they share what its fixtures build.
.venv/bin/python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile --durations 15 "${selection[@]}" "$@"
