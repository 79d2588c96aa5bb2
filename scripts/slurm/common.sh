# shellcheck shell=bash
# What the scripts beside this one share. Sourced from the root of the checkout, where jobs are submitted.

fail() {
  echo "$*" >&2
  exit 2
}

enter_environment() { # SETUP, a file to source, then .venv if the checkout has one
  if [ -n "${SETUP:-}" ]; then
    set +u # what activates modules or environments seldom survives it
    # shellcheck source=/dev/null
    source "$SETUP"
    set -u
  fi
  if [ -d .venv ]; then
    export PATH="$PWD/.venv/bin:$PATH"
  fi
}

run_folder() { # STAGE CONFIG [--a.b VALUE ...]: where this run will write; refuses a configuration with errors
  python - "$1" --config "${@:2}" <<'PYTHON'
import sys

from locvlm.config import load_config
from locvlm.training import arguments

stage = sys.argv.pop(1)
try:
    config = load_config(getattr(arguments, f"Stage{stage}Config"))
    print(config.training["output_dir"])
except (ValueError, KeyError, AttributeError) as error:
    sys.exit(f"stage {stage}: {error}")
PYTHON
}

wait_for() { # PID: its exit status, however often a trapped signal interrupts the waiting
  while kill -0 "$1" 2>/dev/null; do
    wait "$1" || true
  done
  wait "$1" # once more: the shell keeps the status, and the last wait may have been an interrupted one
}
