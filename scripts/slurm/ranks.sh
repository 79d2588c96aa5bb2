#!/usr/bin/env bash
# The ranks of one node: torchrun, with a log for each of them, and signals passed on. train.sbatch has srun start it
# on every node:  ranks.sh RUN LOGS [torchrun's options] train/stage2.py ...
# Exits 85 when the run was told to leave and saved (RUN/preempted.json), else as torchrun does.
#
# Whom srun and scancel reach differs by cluster. With proctrack/cgroup it is the process that srun started, this one,
# and nobody else; with proctrack/linuxproc or pgid it is its whole tree. And torchrun is in the way: SIGUSR1 ends it at
# once, and on SIGTERM it kills its ranks half a minute later, saved or not. So it is started deaf to both, and the
# ranks, which are its children, get SIGUSR1 from here. They would be deaf too, had they not handlers of their own once
# there is something to save; until then a signal must not kill them either, and is repeated.
set -euo pipefail
source scripts/slurm/common.sh
run=$1 logs=$2/node$SLURM_NODEID
shift 2

screen=()
if [ "$SLURM_NODEID" = 0 ]; then
  screen=(--tee 0:3) # rank 0 is shown in the job's log too
fi
mkdir -p "$logs"
trap '' USR1 TERM # inherited by what is started from here
torchrun --node-rank "$SLURM_NODEID" --log-dir "$logs" --redirects 3 "${screen[@]}" \
  --signals-to-handle SIGINT,SIGHUP,SIGQUIT "$@" &
torchrun=$!

# shellcheck disable=SC2317 # called by the trap
pass_on() {
  trap '' USR1 TERM # a trap ends with the shell that set it
  while kill -0 "$torchrun" 2>/dev/null; do
    pkill -USR1 -P "$torchrun" || true
    sleep 5
  done
}
passing=
trap '[ -n "$passing" ] || { pass_on >/dev/null 2>&1 & passing=$!; }' USR1 TERM

status=0
wait_for "$torchrun" || status=$?
if [ "$status" != 0 ] && [ -f "$run/preempted.json" ]; then
  status=85 # PREEMPTED_EXIT_CODE: torchrun says 1 whatever its ranks say
fi
exit "$status"
