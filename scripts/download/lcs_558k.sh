#!/usr/bin/env bash
# LCS-558K, LLaVA-1.5's pairs from LAION, CC and SBU with BLIP's captions: stage 1 of LocVLM-L.
#   bash scripts/download/lcs_558k.sh [--list] [--no-unpack] [DATA_ROOT [PART ...]]      parts: captions, images
# Licence: those of CC3M and of BLIP's captions; the images belong to their owners
#   (https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain).
# Size: 0.2 GB of captions, 27.4 GB of images. Checksums: none published that we could read.
# Writes: DATA_ROOT/lcs558k/blip_laion_cc_sbu_558k.json and the images beside it, in numbered folders.
#   Training also reads images.zip as it is: --no-unpack.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain/resolve/main

file captions "$from/blip_laion_cc_sbu_558k.json" lcs558k/blip_laion_cc_sbu_558k.json - "about 181 MB"
archive images "$from/images.zip" lcs558k - - "about 27.4 GB"
run "$@"
