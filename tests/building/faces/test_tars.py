"""Tar shards: samples keep names and order, images lose their faces, and training reads the result."""

import io
import json
import tarfile

import pytest
from PIL import Image

from locvlm.building.faces.files import Blurring
from locvlm.building.faces.tars import blur_tar
from locvlm.building.shard_writer import write_tar
from locvlm.data.dataset import FileDataset
from locvlm.data.image import load_image
from locvlm.geometry import Box
from locvlm.io import record_from_json, record_to_json

SIZE = (160, 120)
FACE = Box(40, 30, 80, 80)
INNER = (50, 42, 70, 68)


def encoded(image, form="PNG"):
    image.save(file := io.BytesIO(), form)
    return file.getvalue()


def sample(key, image, caption="a dog", name="png"):
    row = {"id": key, "image": f"{key}.{name}", "queries": [{"objective": "caption", "answer": caption}]}
    return [(f"{key}.{name}", image), (f"{key}.json", json.dumps(row).encode()), (f"{key}.cls", b"7")]


@pytest.fixture
def blur(tmp_path, red_patch):
    def run(members, **options):
        write_tar(tmp_path / "in" / "00000.tar", members)
        how = Blurring(source=tmp_path / "in", out=tmp_path / "out", detector=red_patch, **options)
        return blur_tar("00000.tar", how)

    run.out = tmp_path / "out" / "00000.tar"
    return run


def members_of(path):
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def test_training_reads_blurred_images_with_their_text(blur, picture, contrast_in):
    plain, face = encoded(picture(SIZE)), encoded(picture(SIZE, face=FACE))
    records = blur(
        [
            *sample("000000", plain),
            *sample("000001", face),
            ("000002.json", b'{"id": "t", "conversations": []}'),
        ]
    )
    written = members_of(blur.out)
    assert list(written) == [
        *("000000.png", "000000.json", "000000.cls", "000001.png", "000001.json", "000001.cls"),
        "000002.json",
    ]
    assert written["000000.png"] == plain
    assert written["000001.png"] != face
    assert written["000001.json"] == sample("000001", face)[1][1]
    dataset = FileDataset(str(blur.out), kind="webdataset")
    assert dataset[1].queries[0].answer == "a dog"
    assert contrast_in(load_image(dataset[1].image), INNER) < 0.15 * contrast_in(
        picture(SIZE, face=FACE), INNER
    )
    assert [(record.id, len(record.queries)) for record in records] == [
        ("00000.tar/000000.png", 0),
        ("00000.tar/000001.png", 1),
    ]


def test_the_record_says_where_in_the_tar_its_image_is(blur, picture):
    (record,) = blur(sample("000000", encoded(picture(SIZE, face=FACE))))
    again = record_from_json(record_to_json(record))
    image = load_image(blur.out.parent / again.image, (again.width, again.height))
    assert image.size == SIZE
    assert again.queries[0].box_px == FACE


def test_a_sample_that_cannot_be_used_is_left_out_whole(blur, picture):
    torn = encoded(picture(SIZE))[:-200]
    clip = [("000002.mp4", b"video"), ("000002.json", b"{}")]
    records = blur([*sample("000000", torn), *sample("000001", encoded(picture(SIZE))), *clip])
    assert {name.split(".")[0] for name in members_of(blur.out)} == {"000001"}
    assert [record.source.get("dropped") for record in records] == [
        "unreadable image",
        None,
        "a video in a shard",
    ]
    assert records[0].id == "00000.tar/000000.png"


def test_every_image_of_a_sample_is_blurred(blur, picture, contrast_in):
    face = encoded(picture(SIZE, face=FACE))
    blur([("a.png", face), ("a.second.PNG", face), ("a.json", b"{}"), (".hidden", b""), ("noextension", b"")])
    written = members_of(blur.out)
    assert set(written) == {"a.png", "a.second.PNG", "a.json"}
    for name in ("a.png", "a.second.PNG"):
        assert contrast_in(Image.open(io.BytesIO(written[name])), INNER) < 1


def test_the_same_tar_gives_the_same_bytes(blur, picture):
    members = sample("000000", encoded(picture(SIZE, face=FACE), "JPEG"), name="jpg")
    blur(members)
    first = blur.out.read_bytes()
    blur(members)
    assert blur.out.read_bytes() == first


def test_a_tar_that_is_cut_off_stops_the_build(blur, picture, tmp_path, red_patch):
    blur(sample("000000", encoded(picture(SIZE))))
    path = tmp_path / "in" / "00000.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cut off"):
        blur_tar("00000.tar", Blurring(source=tmp_path / "in", out=tmp_path / "new", detector=red_patch))
    assert not (tmp_path / "new" / "00000.tar").exists()
