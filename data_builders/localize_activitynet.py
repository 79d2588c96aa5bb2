"""LocPred, RevLoc and NegPred about what rests in videos (Localize-ActivityNet, paper sections 3.4 and D).

    python data_builders/localize_activitynet.py --videos activitynet/train --device cuda --dtype float16 \\
        --checkpoint facebook/mask2former-swin-large-coco-panoptic --out localize_activitynet.jsonl
    python data_builders/localize_activitynet.py --videos activitynet/train --panoptic seem.json \\
        --panoptic-pngs seem --out localize_activitynet.jsonl
    python data_builders/localize_activitynet.py --videos activitynet/train --segments segments.jsonl \\
        --out localize_activitynet.jsonl

Eight frames of each video are segmented. Objects that are the only one of their class, and rest or are seen
in one frame, are asked about by class, with their mean box; classes that no frame shows are asked for as
absent. What is found is kept in OUT.segments.jsonl: a killed build goes on from there, and other options
(with --overwrite) take seconds. Absent classes are drawn by what all videos show, so shards stop before that:
--segments-only --shard 3/16 writes what was found, data_builders/merge puts it together, and --segments goes
on from there.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from locvlm.building.build import Build, begin_build
from locvlm.building.listing import add_video_options, hash_of_names, list_videos
from locvlm.building.options import add_build_options, first
from locvlm.building.segmenting.options import (
    add_segmenter_options,
    open_journal,
    open_segmenter,
    segmenter_inputs,
)
from locvlm.building.segmenting.resting import StaticRule, annotate_video, build_video_records
from locvlm.building.segmenting.videos import (
    SegmentedVideo,
    Tally,
    answer_all,
    read_segments,
    segment_video,
)
from locvlm.io import Ledger, resolve_inside, write_jsonl
from locvlm.log import setup_logging
from locvlm.objectives.select import SelectionConfig, make_negatives

Rows = Callable[[], Iterable[dict[str, Any]]]  # gives what was found in each video anew at each call


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_video_options(parser)
    add_segmenter_options(parser)
    parser.add_argument(
        "--segments", type=Path, help="what an earlier --segments-only wrote, instead of these"
    )
    parser.add_argument("--segments-only", action="store_true", help="write what is found, no records")
    parser.add_argument(
        "--max-shift", type=float, default=5.0, help="of what rests, in pixels of a canvas of 224 x 224"
    )
    parser.add_argument("--stuff", action="store_true", help="ask about stuff, such as sky, as well")
    parser.add_argument("--min-area", type=float, default=0.0, help="of the mean box, in source pixels")
    parser.add_argument("--negatives", choices=("proportional", "uniform"), default="proportional")
    parser.add_argument("--negatives-per-video", type=int, default=6)
    add_build_options(parser, dropped="of videos, and of segments")
    args = parser.parse_args()
    if sum(source is not None for source in (args.panoptic, args.checkpoint, args.segments)) != 1:
        parser.error("say where segments come from, once: --panoptic, --checkpoint or --segments")
    if args.segments_only and args.preview is not None:
        parser.error("--preview draws records; --segments-only writes none")
    if args.shard.count > 1 and not (args.segments_only or args.segments):
        parser.error(
            "absent classes are drawn by what all videos show: build shards with --segments-only, merge them "
            "with data_builders/merge.py, and give the result to --segments"
        )
    return args


def main() -> None:
    """List, segment, choose what rests, write."""
    args = parse_arguments()
    setup_logging()
    if args.segments is not None:
        build = begin_build(args, inputs=[args.segments], image_root=args.videos)
        if build is not None:
            write_records(args, lambda: read_segments(args.segments), build)
        return
    videos = list_videos(args)
    build = begin_build(
        args, inputs=segmenter_inputs(args), image_root=args.videos, listed=hash_of_names(videos)
    )
    if build is None:
        return
    part = list(args.shard.take(first(videos, args.limit)))
    segmenter = open_segmenter(args)

    def segment(todo: Iterable[str]) -> Iterator[SegmentedVideo]:
        for video in todo:
            path = resolve_inside(args.videos, video)
            yield segment_video(video, path, segmenter, num_frames=args.num_frames)

    asked = {"listed": hash_of_names(videos), "num_frames": args.num_frames}
    with closing(open_journal(args, build, **asked)) as journal:
        answer_all(part, journal, segment)
        write = write_segments if args.segments_only else write_records
        write(args, lambda: (journal[video] for video in part), build)


def write_segments(args: argparse.Namespace, rows: Rows, build: Build) -> None:
    """Write what was found, failures too."""
    tally = Tally()
    for _ in tally.readable(rows()):
        pass
    tally.require_dropped_at_most(args.max_dropped_fraction)
    build.write_file(
        lambda path: write_jsonl(path, rows()), ledgers=tally.ledgers, counts={"odd": dict(tally.odd)}
    )


def write_records(args: argparse.Namespace, rows: Rows, build: Build) -> None:
    """Write the records about what rests."""
    tally = Tally()
    rule = StaticRule(max_shift=args.max_shift, with_stuff=args.stuff)
    videos = [annotate_video(video, rule) for video in tally.readable(islice(rows(), args.limit))]
    tally.require_dropped_at_most(args.max_dropped_fraction)
    config = SelectionConfig(
        num_negatives=args.negatives_per_video,
        negatives=args.negatives,
        min_area_px=args.min_area,
        seed=args.seed,
    )
    negatives = make_negatives([video.annotation for video in videos], config)  # of all, whatever the shard
    part = args.shard.take(videos)
    asked = Ledger("videos that are asked about")
    build.write_records(
        build_video_records(part, negatives, config, asked),
        ledgers=[asked],
        input_ledgers=tally.ledgers,
        facts={"odd": dict(tally.odd)},
        total=len(part),
    )


if __name__ == "__main__":
    main()
