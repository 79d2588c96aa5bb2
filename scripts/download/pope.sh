#!/usr/bin/env bash
# POPE on COCO: is there such an object? 500 images, 3 x 3,000 questions (Table 9). Images: val2014 of coco.sh.
#   bash scripts/download/pope.sh [--list] [DATA_ROOT [PART ...]]      parts: random, popular, adversarial
# Licence: MIT (https://github.com/RUCAIBox/POPE, now AoiDragon/POPE).
# Size: under 2 MB. Checksums: none published; the address names the commit that LLaVA evaluates on.
# Writes: DATA_ROOT/pope/coco_pope_{random,popular,adversarial}.json.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=https://raw.githubusercontent.com/AoiDragon/POPE/e3e39262c85a6a83f26cf5094022a782cb0df58d/output/coco

for setting in random popular adversarial; do
  file "$setting" "$from/coco_pope_$setting.json" "pope/coco_pope_$setting.json"
done
run "$@"
