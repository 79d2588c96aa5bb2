#!/usr/bin/env bash
# LLaVA's conversations: LLaVA-Instruct-158K for stage 2 (section 4.1), LLaVA-1.5's mix of 665K for the baseline.
#   bash scripts/download/llava_instruct.sh [--list] [--no-unpack] [DATA_ROOT [PART ...]]
#   parts: 158k, mix665k, mix665k_textvqa, mix665k_vg
# Licence: CC BY 4.0, and OpenAI's terms, since GPT-4 wrote them
#   (https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K). TextVQA's images: those of Open Images, CC BY 2.0.
#   Visual Genome's: CC BY 4.0.
# Size: 0.2 GB and 1.0 GB of conversations; images of TextVQA 7.1 GB, of Visual Genome 15.2 GB.
# Checksums: that of 158K is the one of its copies' Git LFS pointers; none published for the others that we could read.
# Writes: DATA_ROOT/llava_instruct_158k.json, whose images are COCO train2017; DATA_ROOT/llava_v1_5_mix665k.json, and
#   its images in DATA_ROOT/llava15: of COCO and GQA as links to what coco.sh and gqa.sh fetch. Those of OCR-VQA have
#   to be fetched by their authors' program, which LLaVA's README links, into llava15/ocr_vqa/images, as .jpg.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K/resolve/main
genome=https://cs.stanford.edu/people/rak248/VG_100K_2

file 158k "$from/llava_instruct_150k.json" llava_instruct_158k.json \
  6b68bc5ca2bfd8a71119af0e8454929668ccda6a334955ccc95d114fc8d082fa 228941895
file mix665k "$from/llava_v1_5_mix665k.json" llava_v1_5_mix665k.json - "about 1.03 GB"
archive mix665k_textvqa https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip llava15/textvqa \
  train_images - 7072297970
archive mix665k_vg "$genome/images.zip" llava15/vg VG_100K - 9731705982
archive mix665k_vg "$genome/images2.zip" llava15/vg VG_100K_2 - 5471658058
run "$@"

if chosen mix665k; then
  mkdir -p "$root/llava15"
  for images in coco gqa; do
    [ -e "$root/llava15/$images" ] || [ -L "$root/llava15/$images" ] || ln -s "../$images" "$root/llava15/$images"
  done
fi
