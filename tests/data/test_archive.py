import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from locvlm.data import archive as archive_module
from locvlm.data import index_cache
from locvlm.data.archive import locate, require_readable_root, tar_member
from locvlm.data.dataset import FileDataset
from locvlm.data.image import UnreadableImage, load_image
from locvlm.io import write_records
from locvlm.records import Query, Record


def jpeg(value, size=(20, 10)):
    Image.new("RGB", size, (value, value, value)).save(file := io.BytesIO(), "JPEG")
    return file.getvalue()


def write_zip(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.fixture
def images(tmp_path):
    """Ten images, some in a folder, packed by both methods."""
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.mkdir("train")
        for n in range(10):
            name = f"train/{n}.jpg" if n % 2 else f"{n}.jpg"
            file.writestr(name, jpeg(10 * n), (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[n % 3 == 0])
    return path


def gray(image):
    return round(float(np.asarray(image).mean()))


@pytest.mark.parametrize("root", ["images.zip", "images.zip/train"])
def test_an_archive_is_read_like_a_folder(images, root):
    numbers = range(1, 10, 2) if root.endswith("train") else range(0, 10, 2)
    for n in numbers:
        assert abs(gray(load_image(images.parent / root / f"{n}.jpg")) - 10 * n) <= 1  # JPEG rounds
    assert gray(load_image(str(images / "train/./3.jpg"))) == gray(load_image(images / "train/3.jpg"))


def test_members_are_the_bytes_that_were_packed(tmp_path):
    rng = np.random.default_rng(0)
    members = {f"ü/{n}.bin": rng.integers(4, size=n * 37, dtype=np.uint8).tobytes() for n in range(50)}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = write_zip(tmp_path / f"{method}.zip", members, method)
        assert {name: locate(path / name).read() for name in members} == members


def test_files_and_folders_are_left_as_they_are(tmp_path):
    (tmp_path / "folder.zip").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "folder.zip/a.png")
    assert locate(tmp_path / "folder.zip/a.png") == tmp_path / "folder.zip/a.png"
    assert load_image(tmp_path / "folder.zip/a.png").size == (4, 4)
    require_readable_root(tmp_path / "folder.zip")


def test_a_missing_member_is_the_error_of_a_missing_file(images, tmp_path):
    messages = []
    for path in (images / "gone.jpg", tmp_path / "gone.jpg"):
        with pytest.raises(UnreadableImage, match="no such image; check the image root") as raised:
            load_image(path)
        messages.append(str(raised.value).replace(str(path), ""))
    assert messages[0] == messages[1]
    with pytest.raises(UnreadableImage, match=r"images.zip/train: no such image"):
        load_image(images / "train")


def test_a_damaged_member_is_named_and_its_neighbours_are_not_touched(images):
    data = bytearray(images.read_bytes())
    with zipfile.ZipFile(images) as file:
        for name in ("2.jpg", "train/3.jpg"):  # stored, deflated
            data[file.getinfo(name).header_offset + 100] ^= 255
        data[file.getinfo("4.jpg").header_offset] = 0
    images.write_bytes(data)
    for name in ("2.jpg", "train/3.jpg"):
        with pytest.raises(UnreadableImage, match=rf"images.zip/{name}: cannot be read .*(checksum|error)"):
            load_image(images / name)
    with pytest.raises(UnreadableImage, match=r"4.jpg: .*no member starts at byte"):
        load_image(images / "4.jpg")
    assert load_image(images / "train/5.jpg").size == (20, 10)


@pytest.mark.parametrize("keep", [0, 30, 1000, -10])
def test_a_cut_archive_is_refused_when_its_source_is_opened(images, keep):
    images.write_bytes(images.read_bytes()[:keep])
    write_records(images.parent / "a.jsonl", [Record(id="a", image="2.jpg")])
    with pytest.raises(ValueError, match=r"images.zip cannot be read as a zip archive .*cut off"):
        FileDataset(images.parent / "a.jsonl", image_root=images)


def test_a_missing_encrypted_or_unusually_packed_archive_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match=r"no such archive of images: .*gone.zip"):
        require_readable_root(tmp_path / "gone.zip")
    packed = write_zip(tmp_path / "lzma.zip", {"a.jpg": jpeg(1)}, zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match=r"lzma.zip: 'a.jpg' is packed by method 14; expected"):
        require_readable_root(packed)
    data = bytearray(images.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    images.write_bytes(data)
    with pytest.raises(ValueError, match="is encrypted; expected"):
        require_readable_root(images)


@pytest.mark.parametrize("name", ["../outside.jpg", "/etc/passwd", "a/../../outside.jpg"])
def test_no_name_leads_out_of_an_archive(tmp_path, name):
    (tmp_path / "outside.jpg").write_bytes(jpeg(1))
    path = write_zip(tmp_path / "images.zip", {"a/b.jpg": jpeg(2), "../outside.jpg": jpeg(3)})
    write_records(
        tmp_path / "a.jsonl", [Record(id="a", image=name, queries=(Query(objective="caption", answer="x"),))]
    )
    with pytest.raises(ValueError, match=r"a.jsonl:1: .*stay inside its root"):
        FileDataset(tmp_path / "a.jsonl", image_root=path)[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "images.zip", "outside.jpg"]


def test_of_two_members_with_one_name_the_last_is_valid(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as file:
        file.writestr("a.jpg", jpeg(10))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.jpg", jpeg(200))
    assert gray(load_image(tmp_path / "twice.zip/a.jpg")) == 200


def test_a_replaced_archive_is_read_anew(images):
    before = gray(load_image(images / "2.jpg"))
    write_zip(images.with_suffix(".new"), {"2.jpg": jpeg(250)})
    os.replace(images.with_suffix(".new"), images)
    assert (before, gray(load_image(images / "2.jpg"))) == (20, 250)


def test_a_member_of_a_shard_is_read_from_its_place(tmp_path):
    data = jpeg(90)
    (tmp_path / "0.tar").write_bytes(b"x" * 512 + data + b"y" * 100)
    assert gray(load_image(tar_member(tmp_path / "0.tar", "0.jpg", 512, len(data)))) == 90
    with pytest.raises(UnreadableImage, match=r"0.tar/0.jpg@512\+99999: cannot be read .*CutOff"):
        load_image(tar_member(tmp_path / "0.tar", "0.jpg", 512, 99999))


def test_a_process_holds_a_mapped_table_and_no_object_for_each_member(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHE_FROM_BYTES", 0)
    path = write_zip(tmp_path / "many.zip", {f"{n}.jpg": b"%d" % n for n in range(3000)})
    archive_module._open_zip.cache_clear()
    require_readable_root(path)
    index = archive_module._open_zip(str(path), archive_module.stamp_of(path))
    assert isinstance(index.rows.base, np.memmap)
    assert index.rows.nbytes == 3000 * 38
    assert len(pickle.dumps(index)) < 500
    assert locate(path / "2999.jpg").read() == b"2999"
