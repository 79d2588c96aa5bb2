#!/usr/bin/env bash
# Real photographs through the whole training, with the tiny model: shows that a COCO folder and this machine are
# fit for a long run. It says nothing about accuracy.
#   bash scripts/try_coco.sh COCO [OUT]    COCO holds annotations/, train2017/ and val2017/; OUT: runs/try_coco
# Leaves OUT/stage1, OUT/stage2 (both trained by two deepspeed ranks, ZeRO-2) and OUT/frames.html: photographs with
# their ground-truth boxes after stretch, pad and crop. The same command again goes on where it stopped.
set -euo pipefail
coco=$(cd "${1:?usage: bash scripts/try_coco.sh COCO [OUT]}" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${2:-runs/try_coco}
steps=${STEPS:-20}

bash scripts/setup_env.sh
export PATH="$PWD/.venv/bin:$PATH"
notes=$coco/annotations images=$coco/train2017

[ -d "$out/backbones/llm" ] || python scripts/make_world.py --only backbones --out "$out/backbones"
[ -d "$out/init" ] || python scripts/init_checkpoint.py --llm "$out/backbones/llm" --clip "$out/backbones/clip" \
  --tokenizer "$out/backbones/tokenizer" --out "$out/init"
python data_builders/stage1_pairs.py --captions "$notes/captions_train2017.json" --out "$out/stage1.jsonl"
python data_builders/localize_instruct.py --instances "$notes/instances_train2017.json" --out "$out/localize.jsonl"

stage() { # PROGRAM SOURCE [OPTION VALUE ...]
  deepspeed --num_gpus 2 "train/$1.py" --config train/configs/try_coco.yaml --model.checkpoint "$out/init" \
    --data.sources.0.path "$out/$2.jsonl" --data.sources.0.image_root "$images" \
    --training.max_steps "$steps" --training.output_dir "$out/$1" "${@:3}"
}
stage stage1 stage1 --data.conversation plain
stage stage2 localize --model.adapter "$out/stage1/final"

python scripts/draw_frames.py --instances "$notes/instances_val2017.json" --image-root "$coco/val2017" \
  --out "$out/frames.html"
echo "looked at: $out/frames.html   trained: $out/stage2/final"
