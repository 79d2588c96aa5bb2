"""Sources, opened; of one that chooses objectives, these alone are asked.

So one file serves every row of the paper's ablation of objectives (LocVLM Tab. 11).
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from locvlm.data.dataset import FileDataset
from locvlm.data.index_cache import open_index
from locvlm.data.mixture import Source
from locvlm.data.shards import ShardSamples
from locvlm.records import Objective, Record


class ObjectiveFilter:
    """The records of a data set with their queries of the chosen objectives alone.

    Records without any are no part of it: they are not drawn, and so not counted as dropped either. To find
    them, every record is read once; for a large file the result is kept (see `index_cache.py`).

    Raises:
        ValueError: if no record has such a query; on reading, for a conversation instead of a record.
    """

    def __init__(self, dataset: FileDataset, objectives: Collection[Objective]) -> None:
        self.dataset = dataset
        self.objectives = frozenset(objectives)
        objects = dataset.objects
        files = objects.tars if isinstance(objects, ShardSamples) else [objects.path]
        self._index = open_index("-".join(["only", *sorted(self.objectives)]), files, self._find)
        if not len(self):
            raise ValueError(f"no record in {files[0]} asks for {', '.join(sorted(self.objectives))}")

    def __len__(self) -> int:
        return len(self._index.rows)

    def __getitem__(self, index: int) -> Record:
        record = self._record(int(self._index.rows[index]))
        queries = tuple(query for query in record.queries if query.objective in self.objectives)
        return replace(record, queries=queries)

    def _find(self) -> NDArray[np.int64]:
        """Positions of the records that have a query to ask, and of those that cannot be read: whoever draws
        one of these is told why."""
        return np.array([i for i in range(len(self.dataset)) if self._is_asked(i)], dtype=np.int64)

    def _is_asked(self, position: int) -> bool:
        try:
            record = self._record(position)
        except ValueError:
            return True
        return any(query.objective in self.objectives for query in record.queries)

    def _record(self, position: int) -> Record:
        item = self.dataset[position]
        if not isinstance(item, Record):
            raise ValueError(
                f"objectives choose among the queries of records, but {item.id!r} is a LLaVA conversation; "
                f"leave the setting out"
            )
        return item


SourceData = FileDataset | ObjectiveFilter


def open_source(source: Source, *, takes_videos: bool = False) -> SourceData:
    """The samples of a source; where videos are not taken, samples about them are refused.

    Raises:
        ValueError: naming the file, if it is missing, empty or malformed, or has nothing to ask.
    """
    dataset = FileDataset(
        source.path,
        image_root=source.image_root,
        video_root=source.video_root if takes_videos else None,
        kind=source.kind,
    )
    return dataset if source.objectives is None else ObjectiveFilter(dataset, source.objectives)
