"""SEEM cannot run here: a package of exactly its interface stands in, which calls bright pixels a person."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from locvlm.building.segmenting.panoptic_files import PanopticFiles
from locvlm.building.segmenting.segment import Picture
from locvlm.geometry import Box
from locvlm.io import read_records

STUB = {
    "modeling/__init__.py": """
def build_model(opt):
    assert opt["RANK"] == 0, "init_distributed comes first"
    return opt
""",
    "modeling/BaseModel.py": """
import types
import torch

class Seem(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.task_switch = dict.fromkeys(("spatial", "visual", "grounding", "audio"), True)
        self.classes = None
        encoder = types.SimpleNamespace(get_text_embeddings=self._embed)
        self.sem_seg_head = types.SimpleNamespace(predictor=types.SimpleNamespace(lang_encoder=encoder))

    def _embed(self, classes, is_eval):
        assert is_eval
        self.classes = classes

    def evaluate(self, batch):
        assert self.classes[-1] == "background" and not any(self.task_switch.values()) and not self.training
        (item,) = batch  # "only support batch size equal to 1"
        image = item["image"]
        assert image.dtype == torch.uint8 and tuple(image.shape) == (3, item["height"], item["width"])
        assert min(item["height"], item["width"]) == 512
        bright = image.float().mean(0) > 128
        ids = torch.where(bright, 2, 1).to(torch.int32)
        infos = [{"id": 1, "isthing": False, "category_id": 1}, {"id": 2, "isthing": True, "category_id": 0}]
        return [{"panoptic_seg": (ids, infos)}]

class BaseModel(torch.nn.Module):
    def __init__(self, opt, module):
        super().__init__()
        self.model = Seem()

    def from_pretrained(self, path):
        assert open(path).read() == "weights"
        return self
""",
    "utils/__init__.py": "",
    "utils/arguments.py": """
def load_opt_from_config_files(files):
    (path,) = files
    return {"text": open(path).read()}
""",
    "utils/distributed.py": """
def init_distributed(opt):
    return {**opt, "RANK": 0}
""",
    "utils/constants.py": "COCO_PANOPTIC_CLASSES = ['person', 'sky-other-merged']\n",
    "detectron2/__init__.py": "",
    "detectron2/data/__init__.py": """
import types

class MetadataCatalog:
    @staticmethod
    def get(name):
        assert name == "coco_2017_train_panoptic"
        return types.SimpleNamespace(
            stuff_classes=["person", "sky-other-merged"], thing_dataset_id_to_contiguous_id={1: 0}
        )
""",
    "configs/seem/demo.yaml": "a: 1\n",
    "seem.pt": "weights",
}
SCENES = {
    "a.jpg": ((640, 480), Box(64, 48, 320, 240)),
    "b.jpg": ((1000, 377), Box(500, 100, 900, 300)),
    "sub/a.jpg": ((300, 700), Box(30, 70, 150, 350)),
}


@pytest.fixture
def seem(repo_root, tmp_path):
    """Runs the script, alone on its path, against the stand-in."""
    checkout = tmp_path / "seem_checkout"
    for name, text in STUB.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)

    def run(*options, kill_after=None):
        command = [sys.executable, "-P", repo_root / "scripts" / "segment_with_seem.py"]
        command += ["--images", tmp_path / "images", "--out", tmp_path / "seem", "--seem-repo", checkout]
        command += [
            "--config",
            "configs/seem/demo.yaml",
            "--weights",
            checkout / "seem.pt",
            "--device",
            "cpu",
        ]
        process = subprocess.Popen(
            [*map(str, command), *map(str, options)], stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        said = []
        for line in process.stderr:
            said.append(line)
            if kill_after is not None and line.startswith(f"{kill_after} of"):
                process.kill()
        assert (process.wait() == 0) is (kill_after is None), "".join(said)
        return "".join(said)

    return run


def write_scenes(tmp_path, scenes=SCENES, **save):
    for name, (size, box) in scenes.items():
        pixels = np.full((size[1], size[0], 3), 20, dtype=np.uint8)
        pixels[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = 230
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / name, quality=95, **save)


def persons(tmp_path, jsons, names):
    def never():
        raise AssertionError("no pixels are needed")

    segmenter = PanopticFiles(jsons, tmp_path / "seem")
    answers = list(segmenter.segment(Picture(name, never) for name in names))
    assert not any(answer.failed or answer.odd for answer in answers)
    return [(a.size, next(s.box_px for s in a.segments if s.category == "person")) for a in answers]


def test_the_script_imports_nothing_of_locvlm(repo_root):
    text = (repo_root / "scripts" / "segment_with_seem.py").read_text()
    assert "import locvlm" not in text
    assert "from locvlm" not in text


def test_boxes_come_back_to_the_images_from_a_short_side_of_512(seem, tmp_path):
    write_scenes(tmp_path)
    seem()
    with Image.open(tmp_path / "seem" / "b.jpg.png") as png:
        assert png.size == (1358, 512)
    for (size, box), (expected_size, expected) in zip(
        persons(tmp_path, [tmp_path / "seem.json"], SCENES), SCENES.values(), strict=True
    ):
        assert size == expected_size
        assert box == pytest.approx(expected, abs=max(size) / 512 + 1)  # a pixel of the PNG
    data = json.loads((tmp_path / "seem.json").read_text())
    assert data["categories"] == [
        {"id": 0, "name": "person", "isthing": 1},
        {"id": 1, "name": "sky-other-merged", "isthing": 0},
    ]


def test_a_photograph_that_is_stored_sideways_is_segmented_upright(seem, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    write_scenes(tmp_path, {"a.jpg": ((640, 480), Box(0, 0, 320, 120))}, exif=exif)
    seem()
    ((size, box),) = persons(tmp_path, [tmp_path / "seem.json"], ["a.jpg"])
    assert size == (480, 640)
    assert box == pytest.approx((360, 0, 480, 320), abs=3)


def test_a_killed_run_goes_on_and_an_unreadable_image_is_left_out(seem, tmp_path):
    write_scenes(
        tmp_path, {f"{k:02d}.jpg": ((600, 520), Box(10 * k, 20, 10 * k + 50, 300)) for k in range(9)}
    )
    (tmp_path / "images" / "04.jpg").write_bytes(b"no image")
    seem(kill_after=3)
    assert not (tmp_path / "seem.json").exists()
    journal = tmp_path / "seem" / "done.jsonl"
    done = journal.read_text().count("\n")
    assert 3 <= done < 9
    with journal.open("a") as file:
        file.write('{"name": "05')
    said = seem()
    assert f"\n{done} of 9" not in f"\n{said}"  # not again
    assert f"{done + 1} of 9" in said
    assert "left out, cannot be read: 04.jpg" in said
    names = [f"{k:02d}.jpg" for k in range(9) if k != 4]
    assert len(persons(tmp_path, [tmp_path / "seem.json"], names)) == 8
    assert not list((tmp_path / "seem").rglob("*.partial"))
    assert "of 9: " not in seem()  # all is there


def test_shards_are_read_as_one(seem, tmp_path):
    write_scenes(tmp_path)
    for k in range(2):
        seem("--shard", f"{k}/2")
    jsons = [tmp_path / f"seem.{k}-of-2.json" for k in range(2)]
    assert len(persons(tmp_path, jsons, SCENES)) == 3


def test_from_videos_to_records(seem, run, write_clip, tmp_path):
    """Frames out of a clip, segmented by SEEM's stand-in, and back to what rests in the clip."""
    (tmp_path / "videos").mkdir()
    pixels = np.full((120, 160, 3), 20, dtype=np.uint8)
    pixels[30:90, 40:100] = 230
    write_clip(tmp_path / "videos" / "v.mp4", [pixels] * 20, crf="10")
    videos = ["--videos", tmp_path / "videos"]
    run("data_builders/extract_frames.py", *videos, "--out", tmp_path / "images" / "frames.jsonl")
    seem()
    out = tmp_path / "out.jsonl"
    panoptic = ["--panoptic", tmp_path / "seem.json", "--out", out]
    run("data_builders/localize_activitynet.py", *videos, *panoptic)
    (record,) = read_records(out)
    boxes = {query.category: query.box_px for query in record.queries}
    assert set(boxes) == {"person"}
    assert boxes["person"] == pytest.approx((40, 30, 100, 90), abs=1.5)
    assert os.listdir(tmp_path / "seem" / "v.mp4") != []
