import json

from locvlm.data.quarantine import Dropped, Quarantine


def lines(run, rank=0):
    path = run / f"quarantine-rank{rank}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def add(quarantine, *steps):
    for step in steps:
        quarantine.add(Dropped(f"r{step}", "cc3m", "unreadable image", f"{step}.jpg: cut"), step=step)


def test_every_drop_is_a_line_at_once(tmp_path):
    add(Quarantine(tmp_path), 3)
    assert lines(tmp_path) == [
        {"step": 3, "id": "r3", "source": "cc3m", "reason": "unreadable image", "detail": "3.jpg: cut"}
    ]


def test_nothing_dropped_leaves_no_file(tmp_path):
    Quarantine(tmp_path).rewind(0)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_forgets_what_comes_again(tmp_path):
    add(Quarantine(tmp_path), 1, 4, 5, 6)
    with open(tmp_path / "quarantine-rank0.jsonl", "a") as file:
        file.write('{"step": 7, "id"')  # killed in the middle of a line
    resumed = Quarantine(tmp_path)
    resumed.rewind(4)
    add(resumed, 5)
    assert [line["step"] for line in lines(tmp_path)] == [1, 4, 5]


def test_the_files_of_ranks_that_are_gone_are_rewound_by_the_first(tmp_path):
    for rank in range(4):
        add(Quarantine(tmp_path, rank=rank, world_size=4), 2, 9)
    Quarantine(tmp_path, rank=1, world_size=2).rewind(5)
    steps = [[line["step"] for line in lines(tmp_path, rank)] for rank in range(4)]
    assert steps == [[2, 9], [2], [2, 9], [2, 9]]
    Quarantine(tmp_path, rank=0, world_size=2).rewind(5)
    assert [[line["step"] for line in lines(tmp_path, rank)] for rank in range(4)] == [[2]] * 4
