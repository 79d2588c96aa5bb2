"""The files of a video root, also by names without their extension: annotations of ActivityNet say `v_x`."""

from pathlib import Path

from locvlm.data.video import VIDEO_EXTENSIONS
from locvlm.io import resolve_inside

_FEATURES = ".pkl"  # Video-ChatGPT's training files name the features that it keeps of a video


class VideoFolder:
    """Looks a video's file up by the name that a record has for it.

    Each folder is listed once, when the first name without extension is asked for.

    Raises:
        ValueError: if `root` is no folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"video_root: no folder {self.root}; expected one that holds the video files")
        self._names: dict[Path, dict[str, list[str]]] = {}  # folder -> name without extension -> file names

    def find(self, name: str) -> Path:
        """The video's path. Where there is none of this name, the name itself within the root: whoever opens
        it says that it is missing.

        Raises:
            ValueError: if the name leads out of the root, or several files have it.
        """
        path = resolve_inside(self.root, name)
        if _is_video(path):
            return path
        stem = path.name.removesuffix(_FEATURES)
        files = self._list(path.parent).get(stem, [])
        if len(files) > 1:
            raise ValueError(
                f"the video {name!r} could be any of {', '.join(files)} in {path.parent}; keep one of them, "
                f"or name it with its extension"
            )
        return path.with_name(files[0] if files else stem)

    def _list(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if _is_video(file):
                    names.setdefault(file.stem, []).append(file.name)
            self._names[folder] = names
        return self._names[folder]


def _is_video(path: Path) -> bool:
    return path.suffix.lstrip(".").lower() in VIDEO_EXTENSIONS
