import gzip
import io
import json
import pickle
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from locvlm.data import index_cache
from locvlm.data.dataset import FileDataset
from locvlm.data.image import UnreadableImage, load_image
from locvlm.data.shards import ShardSamples, expand_shards, read_member
from locvlm.geometry import Box
from locvlm.io import record_to_json
from locvlm.records import Query, Record, Sample, Turn


def jpeg(value):
    Image.new("RGB", (20, 10), (value, value, value)).save(file := io.BytesIO(), "JPEG")
    return file.getvalue()


def write_tar(path, members, tar_format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def record(number):
    box = Box(1, 2, 3 + number, 9)
    return Record(
        id=f"r{number}",
        image="named/anything.jpg",
        width=20,
        height=10,
        queries=(Query(objective="locpred", phrase="dög", box_px=box),),
    )


def as_json(value):
    return json.dumps(record_to_json(value) if isinstance(value, Record) else value).encode()


def record_members(numbers):
    return [
        member
        for n in numbers
        for member in ((f"{n:06}.jpg", jpeg(10 * n)), (f"{n:06}.json", as_json(record(n))))
    ]


@pytest.fixture
def shards(tmp_path):
    """Three shards of four, four and two records."""
    for shard, numbers in enumerate((range(4), range(4, 8), range(8, 10))):
        write_tar(tmp_path / f"{shard:05}.tar", record_members(numbers))
    return tmp_path


def gray(image):
    return round(float(np.asarray(image).mean()))


def test_records_come_back_in_any_order_with_their_images(shards):
    dataset = FileDataset(shards / "{00000..00002}.tar", kind="webdataset")
    assert len(dataset) == 10
    for n in (9, 0, 4, 3, 7):
        item = dataset[n]
        assert (item.id, item.queries, item.width) == (f"r{n}", record(n).queries, 20)
        assert abs(gray(load_image(item.image, (20, 10))) - 10 * n) <= 1  # JPEG rounds
        assert f"/0000{n // 4}.tar/00000{n}.jpg@" in item.image


def test_llava_entries_and_captions_are_told_by_what_a_sample_holds(tmp_path):
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}]
    text_only = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Yes."}]
    write_tar(
        tmp_path / "mixed.tar",
        [
            ("README", b"not a sample"),
            ("a.jpg", jpeg(1)),
            ("a.json", as_json({"id": "c1", "image": "coco/a.jpg", "conversations": turns})),
            ("b.json", as_json({"conversations": text_only})),
            ("x/c.d.PNG", b"no image extension, so passed over"),
            ("x/c.txt", " A dög\n on grass. ".encode()),
            ("x/c.jpeg", jpeg(2)),
            ("e.json", as_json({"key": "e", "url": "there", "caption": "of a crawler"})),
            ("e.txt", b"Cat"),
            ("e.webp", jpeg(3)),
        ],
    )
    dataset = FileDataset(tmp_path / "mixed.tar", kind="webdataset")
    conversation, text, caption, crawled = (dataset[i] for i in range(4))
    assert isinstance(conversation, Sample)
    assert (conversation.id, conversation.branches) == ("c1", ((Turn(question="What?", answer="A dog."),),))
    assert gray(load_image(conversation.image)) == 1
    assert (text.id, text.image) == ("b", None)
    assert (caption.id, caption.queries) == ("x/c", (Query(objective="caption", answer="A dög on grass."),))
    assert gray(load_image(caption.image)) == 2
    assert (crawled.id, crawled.queries[0].answer) == ("e", "Cat")


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_are_read_in_every_form_of_tar(tmp_path, tar_format):
    folder = "/".join(["directory"] * 14) + "/"  # 140 characters: each format has its own way beyond 100
    names = ["short", f"{folder}long"] + (["ümlaut" * 30] if tar_format != tarfile.USTAR_FORMAT else [])
    members = [(f"{key}.{end}", b"x") for key in names for end in ("jpg", "txt")]
    samples = ShardSamples(str(write_tar(tmp_path / "a.tar", members, tar_format)))
    assert [samples[i].key for i in range(len(samples))] == names
    assert [read_member(s, s.caption) for s in samples] == [b"x"] * len(names)


def test_patterns_name_shards_in_order(tmp_path):
    for number in (0, 1, 2, 10, 11):
        write_tar(tmp_path / f"s-{number:02}.tar", [])
    names = [path.name for path in expand_shards(f"{tmp_path}/s-{{00..02}}.tar")]
    assert names == ["s-00.tar", "s-01.tar", "s-02.tar"]
    both = expand_shards(f"{tmp_path}/s-{{0..1}}{{0..1}}.tar")
    assert [path.name for path in both] == ["s-00.tar", "s-01.tar", "s-10.tar", "s-11.tar"]
    assert [path.name for path in expand_shards(f"{tmp_path}/*1.tar")] == ["s-01.tar", "s-11.tar"]
    assert [path.name for path in expand_shards(f"{tmp_path}/s-10.tar")] == ["s-10.tar"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{00000..00004}.tar", r"no such shard: .*00003.tar \(2 of the 5 of"),
        ("x*.tar", r"no such shard: .*x\*.tar"),
        ("00009.tar", "no such shard"),
        ("{00002..00001}.tar", "ends before it begins"),
        ("00000.tar.gz", "uncompressed, since they are read by position"),
    ],
)
def test_shards_that_are_not_there_are_refused(shards, pattern, message):
    (shards / "00000.tar.gz").write_bytes(gzip.compress((shards / "00000.tar").read_bytes()))
    with pytest.raises(ValueError, match=message):
        expand_shards(f"{shards}/{pattern}")


def test_a_compressed_or_foreign_file_named_tar_is_refused(shards):
    path = shards / "00001.tar"
    for data in (gzip.compress(path.read_bytes()), b"", b"no tar" * 200):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"00001.tar cannot be read as a tar .*fetch it again"):
            ShardSamples(f"{shards}/*.tar")


def test_a_cut_shard_is_refused_wherever_it_is_cut(shards):
    path = shards / "00002.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    cuts = [place for m in members for place in (m.offset, m.offset + 100, m.offset_data, m.offset_data + 10)]
    assert len(cuts) == 16
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"00002.tar.*cut off"):
            ShardSamples(f"{shards}/*.tar")
    path.write_bytes(whole[: members[2].offset] + b"garbage" * 1000)
    with pytest.raises(ValueError, match=r"00002.tar.*damaged"):
        ShardSamples(f"{shards}/*.tar")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", b"")], r"the key 'a' has a.jpg; expected a .json, or an image with a .txt"),
        ([("a.txt", b"x")], r"the key 'a' has a.txt; expected"),
        (
            [("a.jpg", b""), ("a.png", b""), ("a.txt", b"")],
            r"two members for one purpose, 'a.jpg' and 'a.png'",
        ),
        ([("a.jpg", b""), ("a.txt", b"x"), ("b.json", b"{}"), ("a.json", b"{}")], "the key 'a' comes twice"),
        ([], "are empty; expected at least one sample"),
    ],
)
def test_a_shard_without_whole_samples_is_refused_by_shard_and_key(tmp_path, members, message):
    with pytest.raises(ValueError, match=rf"0.tar.*{message}"):
        ShardSamples(str(write_tar(tmp_path / "0.tar", members)))


def test_links_are_refused(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"'a.jpg' is a link"):
        ShardSamples(str(tmp_path / "0.tar"))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.json", b"{nothing")], r"0.tar: a: not valid JSON"),
        ([("a.json", b'{"caption": "x"}')], r'0.tar: a: its .json has neither "queries"'),
        ([("a.jpg", b""), ("a.txt", b"\xff")], r"0.tar: a: its .txt is not UTF-8"),
        ([("a.jpg", b""), ("a.txt", b" \n")], r"a caption query needs 'answer'"),
        ([("a.json", as_json(record(0)))], r"its .json names the image 'named/anything.jpg', the shard does"),
    ],
)
def test_a_malformed_sample_is_named_on_reading(tmp_path, members, message):
    write_tar(tmp_path / "0.tar", [*members, ("b.jpg", b""), ("b.txt", b"fine")])
    dataset = FileDataset(tmp_path / "0.tar", kind="webdataset")
    with pytest.raises(ValueError, match=message):
        dataset[0]
    assert dataset[1].queries[0].answer == "fine"


def test_a_damaged_image_is_an_unreadable_image(tmp_path):
    write_tar(tmp_path / "0.tar", [("a.jpg", jpeg(1)[:200]), ("a.txt", b"x")])
    image = FileDataset(tmp_path / "0.tar", kind="webdataset")[0].image
    with pytest.raises(UnreadableImage, match=r"0.tar/a.jpg@.*cannot be read as an image"):
        load_image(image)


def test_shards_have_no_image_root(shards):
    with pytest.raises(ValueError, match="images of shards lie in the shards"):
        FileDataset(shards / "*.tar", kind="webdataset", image_root=shards)


# ---- the index


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LOCVLM_CACHE", str(folder))
    monkeypatch.setattr(index_cache, "CACHE_FROM_BYTES", 1)
    return folder


def kept(cache, kind):
    return len(list(cache.glob(f"{kind}-*.npy")))


def test_an_index_of_each_tar_and_one_of_all_are_kept(shards, cache):
    first = FileDataset(shards / "*.tar", kind="webdataset")
    assert (kept(cache, "tar"), kept(cache, "shards")) == (3, 1)
    again = pickle.loads(pickle.dumps(first))
    assert [again[n] for n in range(10)] == [first[n] for n in range(10)]
    write_tar(shards / "00003.tar", record_members(range(10, 12)))
    assert FileDataset(shards / "*.tar", kind="webdataset")[11].id == "r11"
    assert (kept(cache, "tar"), kept(cache, "shards")) == (4, 2)  # of the others, nothing was made again


def test_what_is_sent_to_a_worker_does_not_grow_with_the_shards(shards, cache):
    few, all_of_them = (FileDataset(shards / name, kind="webdataset") for name in ("00000.tar", "*.tar"))
    assert len(pickle.dumps(all_of_them)) - len(pickle.dumps(few)) < 400  # two more paths


PROGRAM = """
import os, sys, signal
from locvlm.data import index_cache, shards

index_cache.CACHE_FROM_BYTES = 1
whole = shards.index_tar

def index_tar(path):
    if path.name == "00002.tar":
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(path)

shards.index_tar = index_tar
shards.ShardSamples(sys.argv[1])
"""


def test_a_killed_index_keeps_the_shards_it_had_finished_and_no_half(shards, cache):
    done = subprocess.run([sys.executable, "-c", PROGRAM, f"{shards}/*.tar"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (kept(cache, "tar"), kept(cache, "shards")) == (2, 0)
    assert [FileDataset(shards / "*.tar", kind="webdataset")[n].id for n in range(10)] == [
        f"r{n}" for n in range(10)
    ]
