#!/usr/bin/env bash
# VQAv2: questions and answers of train and val, for evaluation and for the stage-2 mix of LocVLM-L (section 4.3,
# Table 5). Images: train2014 and val2014 of coco.sh.
#   bash scripts/download/vqav2.sh [--list] [--no-unpack] [DATA_ROOT [PART ...]]      parts: train, val
# Licence: CC BY 4.0 (https://visualqa.org/terms.html).
# Size: 43 MB. Checksums: the authors publish none; these are the ones that ParlAI records.
# Writes: DATA_ROOT/vqav2/v2_OpenEnded_mscoco_{train,val}2014_questions.json and
#   v2_mscoco_{train,val}2014_annotations.json.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa

archive train "$from/v2_Questions_Train_mscoco.zip" vqav2 v2_OpenEnded_mscoco_train2014_questions.json \
  05a64b6e2582d06d7585f5429674a9a33851878be1bff9f8668cdcf792df611e 7239401
archive train "$from/v2_Annotations_Train_mscoco.zip" vqav2 v2_mscoco_train2014_annotations.json \
  fb101bcefe91422c543c2bb6d70af11eb3119d0ff745ae283d09acdf66250853 21708861
archive val "$from/v2_Questions_Val_mscoco.zip" vqav2 v2_OpenEnded_mscoco_val2014_questions.json \
  e71f6c5c3e97a51d050f28243e262b28cd0c48d11a6b4632d769d30d3f93222a 3494929
archive val "$from/v2_Annotations_Val_mscoco.zip" vqav2 v2_mscoco_val2014_annotations.json \
  0caae7c8d1dafd852727f5ac046bc1efca9b72026bd6ffa34fc489f3a7b3291e 10518930
run "$@"
