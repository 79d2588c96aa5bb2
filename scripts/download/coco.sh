#!/usr/bin/env bash
# COCO, 2017 and 2014: photographs, instances, captions. Used by every stage and most evaluations (section 4.1).
#   bash scripts/download/coco.sh [--list] [--no-unpack] [DATA_ROOT [PART ...]]      parts: '*2017', train2014, ...
# Licence: annotations CC BY 4.0; each photograph under its own Flickr licence, named in the annotations
#   (https://cocodataset.org/#termsofuse).
# Size: 20.4 GB for 2017, 20.4 GB for 2014, and as much again unpacked until the zips are deleted.
# Checksums: cocodataset.org publishes none; these are the ones that TensorFlow Datasets records.
# Writes: DATA_ROOT/coco/{train,val}{2017,2014}/ and annotations/.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=http://images.cocodataset.org

archive annotations2017 "$from/annotations/annotations_trainval2017.zip" coco annotations \
  113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268 252907541
archive val2017 "$from/zips/val2017.zip" coco val2017 \
  4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05 815585330
archive train2017 "$from/zips/train2017.zip" coco train2017 \
  69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929 19336861798
archive annotations2014 "$from/annotations/annotations_trainval2014.zip" coco annotations \
  031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009 252872794
archive val2014 "$from/zips/val2014.zip" coco val2014 \
  fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0 6645013297
archive train2014 "$from/zips/train2014.zip" coco train2014 \
  ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775 13510573713
run "$@"
