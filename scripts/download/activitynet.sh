#!/usr/bin/env bash
# ActivityNet 1.3: annotations and the addresses of its videos, ActivityNet-QA's questions, and VideoInstruct100K, which
# asks about the same videos (sections 3.4 and 4.4, stage 3).
#   bash scripts/download/activitynet.sh [--list] [DATA_ROOT [PART ...]]      parts: annotations, qa, instruct
# The videos cannot be fetched by a script: they are on YouTube, and some are gone from there. The authors give all of
# them to those who ask by the form on http://activity-net.org/download.html.
# Licence: ActivityNet-QA MIT, for non-commercial use alone; VideoInstruct100K CC BY-SA 4.0; the videos belong to those
#   who put them on YouTube.
# Size: VideoInstruct100K 42 MB, ActivityNet-QA 11 MB, the annotations not known. Checksums: none published that we
#   could read.
# Writes: DATA_ROOT/activitynet/activity_net.v1-3.min.json, and {training,validation,testing}_videos.txt beside it, an
#   address per line; DATA_ROOT/activitynet_qa/{train,val,test}_{q,a}.json; DATA_ROOT/VideoInstruct100K.json.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=http://ec2-52-25-205-214.us-west-2.compute.amazonaws.com/files
questions=https://raw.githubusercontent.com/MILVLG/activitynet-qa/master/dataset

file annotations "$from/activity_net.v1-3.min.json" activitynet/activity_net.v1-3.min.json
for name in train_q train_a val_q val_a test_q test_a; do
  file qa "$questions/$name.json" "activitynet_qa/$name.json"
done
file instruct https://huggingface.co/datasets/MBZUAI/VideoInstruct-100K/resolve/main/VideoInstruct100K.json \
  VideoInstruct100K.json - "about 42.4 MB"
run "$@"

if chosen annotations; then
  python3 - "$root/activitynet" <<'PYTHON'
import json
import sys
from pathlib import Path

folder = Path(sys.argv[1])
videos = json.loads((folder / "activity_net.v1-3.min.json").read_bytes())["database"]
for subset in ("training", "validation", "testing"):
    listed = folder / f"{subset}_videos.txt"
    names = sorted(name for name, video in videos.items() if video["subset"] == subset)
    if not listed.exists():
        listed.write_text("".join(f"https://www.youtube.com/watch?v={name}\n" for name in names))
    print(f"{subset}: {len(names)} videos, listed in {listed}")
PYTHON
  cat <<NOTE
The videos: ask for them by the form on http://activity-net.org/download.html, or fetch those that are still on YouTube
by a program of your choice, with the lists above. Training takes them from a folder activitynet/train, evaluations
from $root/activitynet/videos, as v_ID.mp4 (or .mkv, .webm).
NOTE
fi
