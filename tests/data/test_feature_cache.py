"""Kept features: found by content, told apart by settings, noticed when they are cut off or damaged."""

import os
import pickle
from dataclasses import replace

import pytest
import torch

from locvlm.data.clips import VideoSizeMismatch
from locvlm.data.feature_cache import FeatureCache, FeatureWriter, Pooled
from locvlm.data.feature_key import FeatureSettings, content_key
from locvlm.data.video import UnreadableVideo

SETTINGS = FeatureSettings(
    tower="ab" * 32,
    layer=-2,
    dtype="float32",
    autocast="bfloat16",
    attention="sdpa",
    num_frames=8,
    order="temporal_spatial",
    pad_frames=None,
    frame="stretch",
    canvas=224,
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.25, 0.25, 0.25),
)
SIZE = (320, 240)


@pytest.fixture
def videos(tmp_path):
    """Three files that only look like videos."""
    paths = [tmp_path / f"{name}.mp4" for name in "abc"]
    for k, path in enumerate(paths):
        path.write_bytes(bytes([k]) * (300_000 + k))
    return paths


def features_of(k, dtype=torch.float32):
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(k)).to(dtype)


def fill(folder, videos, *, settings=SETTINGS, dtype=torch.float32, per_file=2):
    writer = FeatureWriter(folder, settings, videos_per_file=per_file)
    for k, path in enumerate(videos):
        writer.add(Pooled(key=content_key(path), features=features_of(k, dtype), size=SIZE))
    writer.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_come_back_to_the_bit(tmp_path, videos, dtype):
    fill(tmp_path / "kept", videos, dtype=dtype)
    cache = pickle.loads(pickle.dumps(FeatureCache(tmp_path / "kept", SETTINGS)))
    assert len(cache) == 3
    for k, path in enumerate(videos):
        found = cache.find(path, size=SIZE)
        assert found is not None
        assert found.dtype == dtype
        assert torch.equal(found, features_of(k, dtype))
    assert len(list(cache.folder.glob("*.safetensors"))) == 2


def test_a_moved_video_keeps_its_features_and_a_changed_one_loses_its_own_alone(tmp_path, videos):
    fill(tmp_path / "kept", videos)
    a, b, c = videos
    moved = a.rename(tmp_path / "moved.mkv")
    content = bytearray(b.read_bytes())
    content[150_000] ^= 1  # in the middle
    b.write_bytes(content)
    os.utime(c, (1, 1))
    cache = FeatureCache(tmp_path / "kept", SETTINGS)
    assert [cache.find(path) is not None for path in (moved, b, c)] == [True, False, True]
    with pytest.raises(UnreadableVideo, match="no such video"):
        cache.find(a)


@pytest.mark.parametrize(
    "change",
    [{"tower": "cd" * 32}, {"num_frames": 9}, {"frame": "pad"}, {"dtype": "bfloat16"}, {"pad_frames": 100}],
    ids=str,
)
def test_other_settings_have_other_features_and_the_difference_is_named(tmp_path, videos, change):
    fill(tmp_path / "kept", videos)
    (name,) = change
    other = replace(SETTINGS, **change)
    cache = FeatureCache(tmp_path / "kept", other)
    assert len(cache) == 0
    assert cache.find(videos[0]) is None
    (difference,) = cache.others()
    assert difference == f"{name} is {getattr(SETTINGS, name)} there, {change[name]} here"
    fill(tmp_path / "kept", videos, settings=other)
    assert len(FeatureCache(tmp_path / "kept", other)) == len(FeatureCache(tmp_path / "kept", SETTINGS)) == 3


@pytest.mark.parametrize("rest", [0, 4, 40, 500])
def test_a_file_that_was_cut_off_is_left_out_and_its_videos_are_missing(tmp_path, videos, rest):
    fill(tmp_path / "kept", videos)
    cache = FeatureCache(tmp_path / "kept", SETTINGS)
    whole = {key for key in cache._places}
    file = sorted(cache.folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)[-1]  # holds two
    assert file.stat().st_size > 500
    file.write_bytes(file.read_bytes()[:rest])
    torn = FeatureCache(tmp_path / "kept", SETTINGS)
    assert torn.damaged == [file]
    assert len(torn) == 1
    assert set(torn._places) < whole
    assert torn.remove_damaged() == 1
    assert not file.exists()
    fill(tmp_path / "kept", videos)
    assert len(FeatureCache(tmp_path / "kept", SETTINGS)) == 3


def test_damaged_features_are_noticed_when_they_are_read(tmp_path, videos):
    fill(tmp_path / "kept", videos, per_file=1)
    cache = FeatureCache(tmp_path / "kept", SETTINGS)
    file = cache._places[content_key(videos[1])].file
    content = bytearray(file.read_bytes())
    content[-3] ^= 64
    file.write_bytes(content)
    again = FeatureCache(tmp_path / "kept", SETTINGS)
    assert [again.find(path) is not None for path in videos] == [True, False, True]
    assert again.remove_damaged() == 1
    assert len(again) == 2


def test_the_size_that_a_record_says_is_held_against_the_videos(tmp_path, videos):
    fill(tmp_path / "kept", videos)
    cache = FeatureCache(tmp_path / "kept", SETTINGS)
    assert cache.find(videos[0], size=(0, 0)) is not None
    with pytest.raises(VideoSizeMismatch, match=r"\(320, 240\), its record says \(240, 320\)"):
        cache.find(videos[0], size=(240, 320))


def test_what_waits_is_lost_when_a_writer_is_killed_and_nothing_else(tmp_path, videos):
    writer = FeatureWriter(tmp_path / "kept", SETTINGS, videos_per_file=2)
    for k, path in enumerate(videos):
        writer.add(Pooled(key=content_key(path), features=features_of(k), size=SIZE))
    assert len(FeatureCache(tmp_path / "kept", SETTINGS)) == 2  # never closed
    (writer.folder / ".x.safetensors.y.partial").write_bytes(b"half a file")
    assert FeatureCache(tmp_path / "kept", SETTINGS).damaged == []
