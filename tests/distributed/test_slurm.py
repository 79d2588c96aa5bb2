"""The scripts of scripts/slurm/ on a real SLURM: munge, slurmctld and two slurmd nodes, started by a fixture.

    bash scripts/test.sh -m slurm tests/distributed/test_slurm.py

Needs root and `apt-get install --no-install-recommends slurm-wlm munge`; nothing outside of a temporary
folder is touched. The nodes share this host, so ranks talk over the loopback, by gloo.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from locvlm.io import read_json

pytestmark = pytest.mark.slurm

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={port0} CPUs=1 RealMemory=1000 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=1 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP
"""
# requeued jobs wait for credentials to expire, two minutes unless cred_expire says less


@dataclass
class Cluster:
    """A running SLURM and how to speak to it."""

    folder: Path
    checkout: Path
    jobs: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """This process's, for this cluster, with one thread a rank."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**kept, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def ask(self, *command: object, check: bool = True, **variables: str) -> str:
        """The output of a command."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.checkout,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: str, *arguments: object, options: tuple[object, ...] = ()) -> str:
        """The number of a job of scripts/slurm/SCRIPT."""
        log = f"--output={self.folder}/%x-%j-%a.out"
        job = self.ask("sbatch", "--parsable", log, *options, f"scripts/slurm/{script}", *arguments).strip()
        self.jobs.append(job)
        return job

    def state(self, job: str) -> dict[str, str]:
        """What scontrol knows about a job; of an array, about its last index."""
        text = self.ask("scontrol", "--oneliner", "show", "job", job)
        return dict(re.findall(r"(\w+)=(\S*)", text.strip().splitlines()[-1]))

    def states(self, job: str) -> list[str]:
        """The states of all indices of an array."""
        return re.findall(r"JobState=(\w+)", self.ask("scontrol", "--oneliner", "show", "job", job))

    def wait(self, job: str, condition: Callable[[], object] | None = None, *, limit_s: float = 300) -> None:
        """Until a job is over, or a condition holds."""
        deadline = time.monotonic() + limit_s
        while not (condition() if condition else OVER.issuperset(self.states(job))):
            is_over = condition is not None and OVER.issuperset(self.states(job))
            if is_over or time.monotonic() > deadline:
                pytest.fail(f"{self.state(job)}\n{self.logs()}")
            time.sleep(0.3)

    def require_completed(self, job: str) -> None:
        """Wait until a job is over, and see that it succeeded."""
        self.wait(job)
        assert set(self.states(job)) == {"COMPLETED"}, f"{self.state(job)}\n{self.logs()}"

    def logs(self) -> str:
        """The ends of the jobs' logs and of the daemons'."""
        return "\n".join(
            f"--- {path}\n{path.read_text(errors='replace')[-4000:]}"
            for path in [*sorted(self.folder.glob("*.out")), *sorted(self.folder.glob("*.log"))]
        )


@pytest.fixture(scope="session")
def cluster(repo_root: Path) -> Iterator[Cluster]:
    """SLURM with the nodes n0 and n1, a CPU each, on this host."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install --no-install-recommends slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons start jobs for their users: needs root")
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")), repo_root)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        start_daemons(cluster, daemons)
        yield cluster
    finally:
        for job in cluster.jobs:
            cluster.ask("scancel", job, check=False)
        stop_daemons(cluster, daemons)
        shutil.rmtree(cluster.folder, ignore_errors=True)


def start_daemons(cluster: Cluster, daemons: list[subprocess.Popen[bytes]]) -> None:
    """Write the configuration, start everything, wait until both nodes are idle."""
    folder, host, environment = cluster.folder, socket.gethostname().split(".")[0], cluster.environment
    for name in ("munge", "state", "n0", "n1"):
        (folder / name).mkdir()
    port, port0, port1 = free_ports(3)
    text = CONFIG.format(folder=folder, host=host, port=port, port0=port0, port1=port1)
    (folder / "slurm.conf").write_text(text)
    cluster.ask("mungekey", "--create", "--keyfile", folder / "munge" / "key")

    def start(*command: object) -> None:
        with (folder / "daemons.log").open("ab") as log:
            words = [str(word) for word in command]
            daemons.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))

    munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    files = [f"--{option}={folder}/munge/{name}" for option, name in munge.items()]
    start("munged", "--foreground", "--force", *files)
    start("slurmctld", "-D", "-c")
    start("slurmd", "-D", "-N", "n0")
    start("slurmd", "-D", "-N", "n1")
    deadline = time.monotonic() + 60
    while cluster.ask("sinfo", "--noheader", "--format=%t %D", check=False).split() != ["idle", "2"]:
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.3)


def stop_daemons(cluster: Cluster, daemons: list[subprocess.Popen[bytes]]) -> None:
    """First what runs jobs, once these are gone; then what they speak to."""
    deadline = time.monotonic() + 40
    while cluster.ask("squeue", "--noheader", check=False) and time.monotonic() < deadline:
        time.sleep(0.3)
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports


# ---- training on two nodes

NUM_STEPS = 40
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1", "--time=20")
ZERO2 = ("--training.deepspeed", "ds_configs/zero2.json", "--training.per_device_train_batch_size", "1")
STEPS = ("--training.max_steps", str(NUM_STEPS), "--training.save_steps", str(NUM_STEPS))


def train(cluster: Cluster, world, run: Path, *more: str) -> str:
    """The number of a job that trains the tiny model in stage 2, on two nodes with a rank each."""
    _, config, *overrides = world.stage(2, run, *ZERO2, *STEPS, *more)
    return cluster.submit("train.sbatch", "--config", config, "--", *overrides, options=TWO_NODES)


@pytest.fixture(scope="module")
def whole(cluster, tiny_world, tmp_path_factory):
    """A run that nobody disturbed."""
    run = tmp_path_factory.mktemp("slurm") / "whole"
    job = train(cluster, tiny_world, run)
    cluster.require_completed(job)
    return run, job


def test_two_nodes_train_under_zero2(cluster, whole, rows_of):
    run, job = whole
    assert [row["step"] for row in rows_of(run)] == list(range(1, NUM_STEPS + 1))
    assert (run / "final" / "model.safetensors").is_file()
    assert read_json(run / "environment.json")["ranks"] == 2
    nodes = sorted(path.name for path in (run / "logs" / f"{job}.0").iterdir())
    assert nodes == ["node0", "node1"]
    for node in nodes:
        (errors,) = (run / "logs" / f"{job}.0" / node).glob("*/attempt_0/0/stderr.log")
        assert errors.is_file()
    assert cluster.state(job)["Restarts"] == "0"


# with --batch as `#SBATCH --signal=B:` does it: the job's shell hears the warning, else what srun started
@pytest.mark.parametrize("how", ["--batch --signal=USR1", "--signal=USR1", "--signal=TERM"])
def test_a_run_that_is_told_to_leave_is_queued_again_and_goes_on(
    cluster, tiny_world, whole, tmp_path, rows_of, weights_of, how
):
    job = train(
        cluster, tiny_world, tmp_path / "run", "--data.num_workers", "1"
    )  # processes that are signalled too
    metrics = tmp_path / "run" / "metrics.jsonl"
    cluster.wait(job, lambda: metrics.is_file() and len(metrics.read_text().splitlines()) >= 3)
    cluster.ask("scancel", *how.split(), job)
    cluster.wait(job, lambda: cluster.state(job)["Restarts"] == "1")
    saved_at = read_json(tmp_path / "run" / "preempted.json")["step"]
    assert 3 <= saved_at < NUM_STEPS
    cluster.require_completed(job)
    assert cluster.state(job)["Restarts"] == "1"
    assert not (tmp_path / "run" / "preempted.json").exists()
    (log,) = cluster.folder.glob(f"*-{job}-*.out")
    assert f"checkpoint-{saved_at}" in log.read_text()  # the second start says where it goes on
    expected, got = rows_of(whole[0]), rows_of(tmp_path / "run")
    assert [(row["step"], row["loss"]) for row in got] == [(row["step"], row["loss"]) for row in expected]
    ours, theirs = weights_of(tmp_path / "run" / "final"), weights_of(whole[0] / "final")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) == 0.0


def test_a_cancelled_run_stays_cancelled(cluster, tiny_world, tmp_path):
    job = train(cluster, tiny_world, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    cluster.wait(job, lambda: metrics.is_file() and len(metrics.read_text().splitlines()) >= 3)
    cluster.ask("scancel", job)
    cluster.wait(job)
    cluster.wait(job, lambda: not cluster.ask("squeue", "--noheader", "--jobs", job, check=False), limit_s=60)
    assert (cluster.state(job)["JobState"], cluster.state(job)["Restarts"]) == ("CANCELLED", "0")


def test_a_failing_run_keeps_its_status(cluster, tiny_world, tmp_path):
    world, broken = tiny_world, tmp_path / "records.jsonl"
    broken.write_text("{}\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "preempted.json").write_text("{}")  # of an earlier start: no reason to queue again
    _, config, *overrides = world.stage(2, tmp_path / "run", *ZERO2, *STEPS)
    overrides[overrides.index(str(world.records))] = str(broken)
    job = cluster.submit("train.sbatch", "--config", config, "--", *overrides, options=TWO_NODES)
    cluster.wait(job)
    state = cluster.state(job)
    assert (state["JobState"], state["Restarts"]) == ("FAILED", "0")


# ---- evaluations, pipeline


def test_an_array_of_evaluations(cluster, tiny_world, tmp_path):
    asked = ["--records", tiny_world.records, "--image-root", tiny_world.images]
    settings = ["--model", tiny_world.init, "--tasks", "locpred,present absent", "--output-dir", tmp_path]
    job = cluster.submit("eval_array.sbatch", *settings, "--", *asked, options=("--array=0-1",))
    cluster.require_completed(job)
    assert len(cluster.states(job)) == 2
    collected = cluster.submit("collect.sh", tmp_path)
    cluster.require_completed(collected)
    assert read_json(tmp_path / "scores.json")["tasks"].keys() == {"absent", "locpred", "present"}


def submit_pipeline(cluster: Cluster, world, folder: Path, **variables: str) -> dict[str, str]:
    """{step: number of its job} of a pipeline on the tiny world, two nodes for the stages."""
    few = ("--training.max_steps", "3", "--training.save_steps", "3", *ZERO2)
    stages = {n: world.stage(n, folder / f"stage{n}", *few) for n in (1, 2)}
    configs = [part for n in stages for part in (f"--stage{n}", stages[n][1])]
    lines = cluster.ask(
        *("bash", "scripts/slurm/pipeline.sh", *configs, "--tasks", "locpred absent"),
        **{f"STAGE{n}_ARGS": " ".join(arguments[2:]) for n, arguments in stages.items()},
        EVAL_ARGS=f"--records {world.records} --image-root {world.images}",
        SBATCH_ARGS=f"--output={cluster.folder}/%x-%j-%a.out",
        TRAIN_SBATCH=" ".join(TWO_NODES),
        **variables,
    )
    jobs = dict(line.split() for line in lines.splitlines())
    cluster.jobs += jobs.values()
    return jobs


def test_a_pipeline_of_dependent_jobs(cluster, tiny_world, tmp_path):
    jobs = submit_pipeline(cluster, tiny_world, tmp_path)
    assert list(jobs) == ["stage1", "stage2", "eval", "collect"]
    for job in jobs.values():
        cluster.require_completed(job)
    times = [(cluster.state(job)["StartTime"], cluster.state(job)["EndTime"]) for job in jobs.values()]
    for (_, end), (start, _) in pairwise(times):
        assert start >= end  # ISO dates, to the second
    assert (tmp_path / "stage1" / "final" / "adapter.safetensors").is_file()
    assert read_json(tmp_path / "stage2" / "eval" / "scores.json")["tasks"].keys() == {
        "absent",
        "locpred",
        "present",
    }


def test_what_depends_on_a_failed_job_is_cancelled(cluster, tiny_world, tmp_path):
    # a stage that another run has taken the folder of
    (tmp_path / "stage1").mkdir()
    (tmp_path / "stage1" / "config.yaml").write_text("model: {checkpoint: another}\n")
    jobs = submit_pipeline(cluster, tiny_world, tmp_path)
    for job in jobs.values():
        cluster.wait(job)
    assert [cluster.state(job)["JobState"] for job in jobs.values()] == ["FAILED"] + ["CANCELLED"] * 3
