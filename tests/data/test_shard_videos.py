"""Videos within tar shards: found, decoded and told apart as those that lie in a folder."""

import io
import json
import tarfile

import numpy as np
import pytest

from locvlm.data import byte_ranges
from locvlm.data.archive import open_video
from locvlm.data.clips import clip_pixels
from locvlm.data.dataset import FileDataset
from locvlm.data.feature_key import content_key
from locvlm.data.video import UnreadableVideo, probe_video, read_frames
from locvlm.records import Record, Sample
from locvlm.spec import VisionSpec

VISION = VisionSpec(canvas=28, patch=14, num_frames=4)
RECORD = {"width": 64, "height": 48, "queries": [{"objective": "negpred", "phrase": "dog"}]}
TALK = {"conversations": [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "A box."}]}


@pytest.fixture(scope="module")
def clip(tmp_path_factory, write_clip):
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    rng = np.random.default_rng(0)
    write_clip(path, [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(90)])
    return path


@pytest.fixture
def pack(tmp_path, clip):
    """pack(name=content...) -> a tar; a content of None is the clip."""

    def write(**members):
        path = tmp_path / "00000.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                data = clip.read_bytes() if content is None else json.dumps(content).encode()
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return write


def opened(path, video_root="."):
    return FileDataset(path, kind="webdataset", video_root=video_root)


def test_records_and_conversations_have_the_video_beside_them(pack, clip):
    data = opened(
        pack(**{"a.mp4": None, "a.json": RECORD, "b.json": TALK, "b.MP4": None, "c.json": TALK | {"x": 1}})
    )
    record, talk = data[0], data[1]
    assert isinstance(record, Record)
    assert isinstance(talk, Sample)
    for item in (record, talk):
        assert item.image is None
        shown, expected = (clip_pixels(path, mode="stretch", vision=VISION) for path in (item.video, clip))
        assert np.array_equal(shown.levels, expected.levels)
        assert shown.size == (64, 48)
        assert content_key(item.video) == content_key(clip)  # so that features made of files serve shards
    assert data[2].video is None  # text alone


def test_of_a_member_no_more_than_a_piece_is_in_memory(pack, clip, monkeypatch):
    video = opened(pack(**{"a.mp4": None, "a.json": RECORD}))[0].video
    sizes = []
    usual = byte_ranges.read_range

    def watched(path, start, size):
        sizes.append(size)
        return usual(path, start, size)

    monkeypatch.setattr(byte_ranges, "read_range", watched)
    assert [frame.index for frame in read_frames(video, [3, 50, 89])] == [3, 50, 89]
    assert 0 < max(sizes) <= 2**16 < clip.stat().st_size
    assert open_video(video).seek(0, 2) == clip.stat().st_size


def test_a_shard_that_was_cut_is_an_unreadable_video(pack):
    path = pack(**{"a.mp4": None, "a.json": RECORD})
    video = opened(path)[0].video
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    for read in (probe_video, content_key):
        with pytest.raises(UnreadableVideo, match="cut off"):
            read(video)


def test_where_videos_are_not_taken_they_are_refused_instead_of_read_as_text(pack):
    data = FileDataset(pack(**{"a.mp4": None, "a.json": RECORD}), kind="webdataset")
    with pytest.raises(ValueError, match=r"00000\.tar: a: it is about the video .*stage 3"):
        data[0]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.mp4": None, "a.jpg": RECORD, "a.json": RECORD}, r"an image, 'a\.jpg', and a video, 'a\.mp4'"),
        ({"a.mp4": None, "a.webm": None, "a.json": RECORD}, "two members for one purpose"),
        ({"a.mp4": None, "a.txt": RECORD}, r"expected a \.json, or an image with a \.txt"),
    ],
)
def test_keys_that_do_not_say_what_is_shown_are_refused(pack, members, message):
    with pytest.raises(ValueError, match=message):
        opened(pack(**members))


def test_a_record_that_names_a_video_which_is_not_there_is_refused(pack):
    data = opened(pack(**{"a.json": {**RECORD, "video": "v_1.mp4"}}))
    with pytest.raises(ValueError, match=r"names the video 'v_1\.mp4', the shard does not hold it"):
        data[0]
