#!/usr/bin/env bash
# ADE20K as the scene parsing challenge of 2016 publishes it: Hal-ADE (section 4.5, appendix C).
#   bash scripts/download/ade20k.sh [--list] [--no-unpack] [DATA_ROOT]
# Licence: annotations BSD 3-Clause; images for non-commercial research and education alone
#   (https://ade20k.csail.mit.edu/terms/).
# Size: 1.0 GB. Checksum: the authors publish none; this is the one that TensorFlow Datasets records.
# Writes: DATA_ROOT/ADEChallengeData2016 with images/, annotations/ and objectInfo150.txt.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

archive scene_parsing http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip . ADEChallengeData2016 \
  7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29 967382037
run "$@"
