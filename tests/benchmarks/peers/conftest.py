"""A toy workload: four images with three pairs each, two steps."""

import pytest

from locvlm.benchmarks.peers.data import prepare, write_scenes
from locvlm.benchmarks.peers.start import write_start
from locvlm.benchmarks.peers.workload import TOY, Workload


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Workload:
    folder = tmp_path_factory.mktemp("peers")
    write_start(folder / "start", TOY)
    images, records = write_scenes(folder / "world", 4, pairs=3)
    workload = Workload(
        start=folder / "start",
        images=images,
        folder=folder / "work",
        pairs_per_image=3,
        images_per_step=2,
        num_steps=2,
        pairs_per_pass=2,
    )
    return prepare(workload, records)
