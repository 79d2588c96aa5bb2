#!/usr/bin/env bash
# Trains, evaluates and exports a small model from nothing: see scripts/demo.py, or `bash scripts/demo.sh --help`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup_env.sh
exec .venv/bin/python scripts/demo.py "$@"
