#!/usr/bin/env bash
# GQA: questions about scenes, for evaluation and for the stage-2 mix of LocVLM-L (section 4.3, Table 5).
#   bash scripts/download/gqa.sh [--list] [--no-unpack] [DATA_ROOT [PART ...]]      parts: questions, images
# Licence: CC BY 4.0, as its copies state it (https://cs.stanford.edu/people/dorarad/gqa/download.html).
# Size: 1.4 GB of questions, 21.8 GB of images. Checksums: the authors publish none; that of the images is the one that
#   several projects record.
# Writes: DATA_ROOT/gqa/{train,val,testdev,...}_balanced_questions.json and gqa/images/.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=https://downloads.cs.stanford.edu/nlp/data/gqa

archive questions "$from/questions1.2.zip" gqa testdev_balanced_questions.json - "about 1.4 GB"
archive images "$from/images.zip" gqa images \
  02ce5c49c793accd5305356de9c39a50f80a7aaac193b0203de30dbbc65bde62 21817965542
run "$@"
