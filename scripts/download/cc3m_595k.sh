#!/usr/bin/env bash
# CC3M-595K, LLaVA's subset of Conceptual Captions: stage 1 of LocVLM-B (section 4.1).
#   bash scripts/download/cc3m_595k.sh [--list] [--no-unpack] [DATA_ROOT [PART ...]]      parts: captions, images
# Licence: that of CC3M, free for any use with Google LLC named as the source; images.zip is there to reproduce LLaVA
#   in research and for no other purpose (https://huggingface.co/datasets/liuhaotian/LLaVA-CC3M-Pretrain-595K).
# Size: 0.2 GB of captions, 6.5 GB of images. Checksums: none published that we could read.
# Writes: DATA_ROOT/cc3m/chat.json and the images beside it. Training also reads images.zip as it is: --no-unpack.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=https://huggingface.co/datasets/liuhaotian/LLaVA-CC3M-Pretrain-595K/resolve/main

file captions "$from/chat.json" cc3m/chat.json - "about 211 MB"
archive images "$from/images.zip" cc3m - - "about 6.46 GB"
run "$@"
