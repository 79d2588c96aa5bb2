"""Uniformly spaced frames of videos as JPEGs, upright, for a segmenter that runs elsewhere.

    python data_builders/extract_frames.py --videos activitynet/train --num-frames 8 --out frames/frames.jsonl

Frame 123 of v_abc.mp4 becomes v_abc.mp4/000123.jpg beside --out, which lists them. Any tool that writes COCO
panoptic files for the folder, such as scripts/segment_with_seem, serves localize_activitynet --panoptic. It
finds the frames by these names, given the same --num-frames. A killed run goes on where it was.
"""

import argparse
import logging
from functools import partial
from pathlib import Path

from locvlm.building.build import begin_build
from locvlm.building.listing import add_video_options, hash_of_names, list_videos
from locvlm.building.options import add_build_options, first
from locvlm.building.parallel import map_in_order
from locvlm.building.segmenting.videos import SegmentedVideo, Tally, answer_all, extract_frames
from locvlm.io import resolve_inside, write_jsonl
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_video_options(parser)
    add_build_options(
        parser,
        out="list of the frames, JSON Lines; they are written beside it",
        seed=False,
        workers=True,
        dropped="of videos",
    )
    args = parser.parse_args()
    if args.preview is not None:
        parser.error("there is nothing to preview: the frames are pictures")
    return args


def main() -> None:
    """List, extract, write the list."""
    args = parse_arguments()
    setup_logging()
    videos = list_videos(args)
    build = begin_build(args, inputs=[], listed=hash_of_names(videos))
    if build is None:
        return
    part = args.shard.take(first(videos, args.limit))
    journal = build.open_journal()
    extract = partial(extract_one, root=args.videos, folder=args.out.parent, num_frames=args.num_frames)
    answer_all(part, journal, lambda todo: map_in_order(extract, todo, args.workers))

    rows = [journal[video] for video in part]
    tally = Tally()
    num_frames = sum(len(video.frames) for video in tally.readable(rows))
    tally.videos.require_dropped_at_most(args.max_dropped_fraction)
    build.write_file(
        lambda path: write_jsonl(path, rows), ledgers=[tally.videos], counts={"frames": num_frames}
    )
    journal.discard()
    logger.info("%s: %d frames; %s", args.out.parent, num_frames, tally.videos.summary())


def extract_one(video: str, *, root: Path, folder: Path, num_frames: int) -> SegmentedVideo:
    """`extract_frames` of a video in `root`."""
    return extract_frames(video, resolve_inside(root, video), folder, num_frames=num_frames)


if __name__ == "__main__":
    main()
