#!/usr/bin/env bash
# RefCOCO, RefCOCO+ and RefCOCOg, as lichengunc/refer publishes them: description and comprehension of regions
# (section 4.6), Region Cell Matching, fine-tuning. Images: train2014 of coco.sh.
#   bash scripts/download/refcoco.sh [--list] [--no-unpack] [DATA_ROOT [PART ...]]   parts: refcoco, refcoco+, refcocog
# Licence: none stated with the files; the boxes are COCO's, CC BY 4.0.
# Size: 0.2 GB. Checksums: the authors publish none; these are the ones that several projects record,
#   all alike. The authors' server does not answer any more (https://github.com/lichengunc/refer/issues/14); the
#   Internet Archive has the files, as they were (id_), and is slow.
# Writes: DATA_ROOT/refcoco, refcoco+ and refcocog, each with its refs(...).p, pickles that are read without running
#   anything, and instances.json.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
from=https://web.archive.org/web then=https://bvisionweb1.cs.unc.edu/licheng/referit/data

archive refcoco "$from/20220413011718id_/$then/refcoco.zip" . "refcoco/refs(unc).p" \
  7f924bb7ed8dc4568058e4ff626281918d56e5206f4c868c5a80f088f38c8bf0 53993993
archive refcoco+ "$from/20220413011656id_/$then/refcoco+.zip" . "refcoco+/refs(unc).p" \
  5f1238112d63199e68da54a28f201471909b21ded7ed79a57d51b4c1443c6b45 45613210
archive refcocog "$from/20220413012904id_/$then/refcocog.zip" . "refcocog/refs(umd).p" \
  3d1f7e5b2ff2205940bf59de55f861f5f2cc1403fb980669933a7f9af1aa8211 56712951
run "$@"
