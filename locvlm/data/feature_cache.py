"""Pooled features of videos on disk, so that an epoch neither decodes nor runs the frozen tower.

    FOLDER/3f0c.../              one folder for each set of `FeatureSettings`
        settings.json            which they are
        5d41....safetensors      features (S, D) by content key; in its header, sizes and checksums

Files are written whole or not at all and never changed, so any number of processes may write into a folder,
and a reader may be among them. A video that changed has another key: its features are missing until they are
made, the others stay. A file that was cut off is noticed when the folder is opened, damaged features when
they are read; both count as missing.
"""

import hashlib
import json
import logging
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from locvlm.data.clips import require_size
from locvlm.data.feature_key import FeatureSettings, content_key
from locvlm.geometry import Size
from locvlm.io import atomic_writer, read_json, write_json

logger = logging.getLogger(__name__)

_SETTINGS = "settings.json"
_SUFFIX = ".safetensors"
_HEADER = "videos"  # of a file: {key: [width, height, checksum]} as JSON


class _Place(NamedTuple):
    file: Path
    size: Size  # of the upright frame: what boxes are in
    checksum: int


class FeatureCache:
    """The features of one set of settings that a folder holds.

    Example:
        cache = FeatureCache("features", settings)
        features = cache.find("videos/v_1.mp4", size=(320, 240))  # (S, D), or None

    Files that appear later are not seen. Pickled, it goes to worker processes.
    """

    def __init__(self, folder: str | Path, settings: FeatureSettings) -> None:
        self.root = Path(folder)
        self.folder = self.root / settings.digest
        self.settings = settings
        self._places: dict[str, _Place] = {}
        self._open: dict[Path, Any] = {}
        self.damaged: list[Path] = []
        for file in sorted(self.folder.glob(f"*{_SUFFIX}")):
            try:
                with safe_open(file, framework="pt") as shard:
                    header = json.loads(shard.metadata()[_HEADER])
            except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
                logger.warning("%s is cut off or no file of this cache, and is left out: %s", file, error)
                self.damaged.append(file)
                continue
            self._places |= {key: _Place(file, (w, h), crc) for key, (w, h, crc) in header.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Without open files."""
        return self.__dict__ | {"_open": {}}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def find(self, path: str | Path, *, size: Size | None = None) -> torch.Tensor | None:
        """The features (S, D) of a video; None where there are none of its present content.

        Raises:
            UnreadableVideo: if there is no such file.
            VideoSizeMismatch: if the video's frames are of another size than the record's.
        """
        key = content_key(path)
        place = self._places.get(key)
        if place is None:
            return None
        require_size(path, place.size, size)
        features = self.read(key)
        if features is None:
            logger.warning("the features of %s in %s are damaged, and are left out", path, place.file)
        return features

    def read(self, key: str) -> torch.Tensor | None:
        """The features (S, D) under a key; None where there are none, or they are damaged."""
        place = self._places.get(key)
        if place is None:
            return None
        try:
            if place.file not in self._open:
                self._open[place.file] = safe_open(place.file, framework="pt")
            features: torch.Tensor = self._open[place.file].get_tensor(key)
        except (SafetensorError, OSError):
            return None
        return features if _checksum(features) == place.checksum else None

    def remove_damaged(self) -> int:
        """Delete the files that are cut off or hold damaged features, with all that is in them; how many.

        Reads every file whole.
        """
        bad = {place.file for key, place in self._places.items() if self.read(key) is None}
        self._open = {}
        for file in {*bad, *self.damaged}:
            file.unlink(missing_ok=True)
        self._places = {key: place for key, place in self._places.items() if place.file not in bad}
        num_removed = len({*bad, *self.damaged})
        self.damaged = []
        return num_removed

    def others(self) -> list[str]:
        """How the settings of other features in the folder differ from these."""
        saved = [path for path in sorted(self.root.glob(f"*/{_SETTINGS}")) if path.parent != self.folder]
        return ["; ".join(self.settings.differences(read_json(path))) for path in saved]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooled:
    """Features of one video, on their way to the disk."""

    key: str
    features: torch.Tensor  # (S, D)
    size: Size  # of the video's upright frame


class FeatureWriter:
    """Collects features and writes them as files of `videos_per_file`; `close` writes the rest.

    Whatever was written stays, should the process be killed; at most one file's worth is made again.
    """

    def __init__(self, folder: str | Path, settings: FeatureSettings, *, videos_per_file: int = 64) -> None:
        self.folder = Path(folder) / settings.digest
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / _SETTINGS).is_file():
            write_json(self.folder / _SETTINGS, asdict(settings))
        self._videos_per_file = videos_per_file
        self._waiting: dict[str, Pooled] = {}

    def add(self, pooled: Pooled) -> None:
        """Take the features of a video."""
        self._waiting[pooled.key] = pooled
        if len(self._waiting) >= self._videos_per_file:
            self.close()

    def close(self) -> None:
        """Write what is waiting. The file is named by its keys, so that no two processes collide."""
        if not self._waiting:
            return
        tensors = {key: pooled.features.detach().cpu().contiguous() for key, pooled in self._waiting.items()}
        header = {key: [*self._waiting[key].size, _checksum(features)] for key, features in tensors.items()}
        name = hashlib.sha256(" ".join(sorted(tensors)).encode()).hexdigest()[:32]
        with atomic_writer(self.folder / f"{name}{_SUFFIX}", binary=True) as file:
            file.write(save(tensors, metadata={_HEADER: json.dumps(header)}))
        self._waiting = {}


def _checksum(features: torch.Tensor) -> int:
    """CRC-32 of the bytes."""
    return zlib.crc32(features.contiguous().view(torch.uint8).numpy().data)
