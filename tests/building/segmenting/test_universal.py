import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from locvlm.annotations.coco_classes import COCO_CLASSES
from locvlm.building.segmenting.segment import UNREADABLE_IMAGE, Picture
from locvlm.building.segmenting.universal import UniversalSegmenter, thing_ids
from locvlm.data.image import UnreadableImage
from locvlm.geometry import Box, iou

_SPEC = importlib.util.spec_from_file_location("segmenting", Path(__file__).with_name("conftest.py"))
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
scene, tiny_swin = _MODULE.scene, _MODULE.tiny_swin

# (width, height) of an image, and where its rectangle is
SCENES = [
    ((64, 64), Box(8, 12, 40, 36)),
    ((96, 64), Box(48, 8, 92, 40)),
    ((64, 96), Box(4, 40, 36, 92)),
    ((96, 64), Box(0, 0, 30, 64)),
    ((640, 480), Box(320, 80, 600, 300)),  # larger than what the model sees
    ((64, 64), Box(30, 30, 64, 64)),
]


def pictures(scenes=SCENES):
    return [Picture(str(k), lambda k=k, s=s: scene(*s[0], s[1], seed=k)) for k, s in enumerate(scenes)]


@pytest.fixture(scope="module")
def segmenter(finder):
    return UniversalSegmenter(str(finder), batch_size=2, threshold=0.5, things=["person"])


def persons(answer):
    return [segment for segment in answer.segments if segment.category == "person"]


def test_boxes_are_in_the_pixels_of_each_image_whatever_its_size(segmenter):
    answers = list(segmenter.segment(pictures()))
    assert [answer.size for answer in answers] == [size for size, _ in SCENES]
    for answer, (_, box) in zip(answers, SCENES, strict=True):
        (person,) = persons(answer)
        assert person.is_thing
        assert iou(person.box_px, box) > 0.7  # masks are of 16 x 16 cells
        assert person.area_px == pytest.approx(box.area, rel=0.3)


def test_a_batch_gives_what_each_picture_gives_alone(segmenter):
    together = list(segmenter.segment(pictures()))
    for picture, answer in zip(pictures(), together, strict=True):
        (alone,) = segmenter.segment([picture])
        assert [s.category for s in alone.segments] == [s.category for s in answer.segments]
        for one, other in zip(alone.segments, answer.segments, strict=True):
            assert iou(one.box_px, other.box_px) > 0.95  # rounding may move a pixel at an edge


def test_one_picture_is_what_the_processor_says(segmenter, finder):
    """The twin: the library's own post-processing of one image, at the image's size."""
    from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation

    image = scene(*SCENES[0][0], SCENES[0][1])
    model = AutoModelForUniversalSegmentation.from_pretrained(finder).eval()
    processor = AutoImageProcessor.from_pretrained(finder, backend="pil")
    with torch.inference_mode():
        outputs = model(**processor(images=[image], return_tensors="pt"))
    (expected,) = processor.post_process_panoptic_segmentation(
        outputs, threshold=0.5, label_ids_to_fuse=set(), target_sizes=[(64, 64)]
    )
    (info,) = (s for s in expected["segments_info"] if s["label_id"] == 0)
    ys, xs = np.nonzero(expected["segmentation"].numpy() == info["id"])
    (answer,) = segmenter.segment([Picture("a", lambda: image)])
    (person,) = persons(answer)
    assert person.box_px == Box(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert person.area_px == len(xs)


def test_stuff_is_one_segment_and_things_are_many(segmenter):
    """Parts of a class as post-processing gives them: two of each."""
    segmentation = torch.tensor([[1, 1, 2, 0], [1, 0, 2, 0], [3, 0, 0, 4]])
    labels = {1: 1, 2: 0, 3: 1, 4: 0, 5: 0}  # 5 has no pixels
    infos = [{"id": k, "label_id": label, "was_fused": False, "score": 1.0} for k, label in labels.items()]
    answer = segmenter._read((8, 3), {"segmentation": segmentation, "segments_info": infos})
    assert sorted((s.category, s.is_thing, tuple(s.box_px), s.area_px) for s in answer.segments) == [
        ("person", True, (4, 0, 6, 2), 4),  # twice as wide as in the map
        ("person", True, (6, 2, 8, 3), 2),
        ("sky", False, (0, 0, 4, 3), 8),
    ]


def test_a_picture_that_cannot_be_read_fails_alone(segmenter):
    def fail():
        raise UnreadableImage("torn")

    mixed = [*pictures()[:1], Picture("b", fail), *pictures()[1:2]]
    answers = list(segmenter.segment(mixed))
    assert [answer.failed for answer in answers] == ["", UNREADABLE_IMAGE, ""]
    assert answers[1].detail == "torn"
    assert persons(answers[2])


def test_nothing_found_is_an_answer(segmenter, finder):
    strict = UniversalSegmenter(str(finder), threshold=1.0, things=["person"])
    (answer,) = strict.segment(pictures()[:1])
    assert (answer.size, answer.segments, answer.failed) == ((64, 64), (), "")


def test_pictures_are_read_as_they_are_needed(segmenter):
    loaded = []

    def load(k):
        loaded.append(k)
        return scene(64, 64, SCENES[0][1])

    answers = segmenter.segment(Picture(str(k), lambda k=k: load(k)) for k in range(100))
    next(answers)
    assert loaded == list(range(8))  # four batches of two
    answers.close()


def test_half_precision_finds_the_same(finder):
    half = UniversalSegmenter(str(finder), dtype="bfloat16", threshold=0.5, things=["person"])
    for answer, (_, box) in zip(half.segment(pictures()), SCENES, strict=True):
        assert iou(persons(answer)[0].box_px, box) > 0.6


# ---- which classes are things

COCO = {k: name for k, name in enumerate([*COCO_CLASSES, "banner", "sky-other-merged"])}


def test_coco_things_are_known():
    assert thing_ids(COCO, given=(), listed=(), of="x") == frozenset(range(80))


def test_things_that_are_given_come_first_then_coco_then_the_list_of_the_processor():
    assert thing_ids(COCO, given=["banner"], listed=[3], of="x") == {80}
    assert thing_ids({0: "wall", 1: "bed"}, given=(), listed=[1, 7], of="x") == {1}


def test_unknown_things_are_an_error():
    with pytest.raises(ValueError, match=r"does not say which of its 2 classes are countable.*--things"):
        thing_ids({0: "wall", 1: "bed"}, given=(), listed=(), of="x")
    with pytest.raises(ValueError, match="has no class 'bad'; its classes are wall, bed"):
        thing_ids({0: "wall", 1: "bed"}, given=["bad"], listed=(), of="x")


# ---- the other architectures, untrained


def save_maskformer(folder, labels):
    from transformers import (
        DetrConfig,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        MaskFormerImageProcessorPil,
    )

    decoder = DetrConfig(
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
        **dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 32),
        num_queries=6,
    )
    config = MaskFormerConfig(
        backbone_config=tiny_swin(),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        id2label=labels,
        label2id={name: k for k, name in labels.items()},
    )
    save_confident(MaskFormerForInstanceSegmentation(config), folder)
    MaskFormerImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)


def save_oneformer(folder, labels):
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        CLIPTokenizer,
        OneFormerConfig,
        OneFormerForUniversalSegmentation,
        OneFormerImageProcessorPil,
        OneFormerProcessor,
    )

    config = OneFormerConfig(
        backbone_config=tiny_swin(),
        **dict.fromkeys(("hidden_dim", "mask_dim", "conv_dim", "text_encoder_width"), 32),
        **dict.fromkeys(("encoder_feedforward_dim", "dim_feedforward"), 32),
        **dict.fromkeys(("task_seq_len", "text_encoder_context_length"), 16),
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=6,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=600,
        is_training=False,
        id2label=labels,
        label2id={name: k for k, name in labels.items()},
    )
    save_confident(OneFormerForUniversalSegmentation(config), folder)
    listed = {str(k): {"name": name, "isthing": int(k == 1)} for k, name in labels.items()}
    (folder / "classes.json").write_text(json.dumps(listed))
    images = OneFormerImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 128},
        repo_path=str(folder),
        class_info_file="classes.json",
        num_text=4,
    )
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={piece: k for k, piece in enumerate(pieces)}, merges=[])
    OneFormerProcessor(images, tokenizer, max_seq_length=16, task_seq_length=16).save_pretrained(folder)


def save_confident(model, folder):
    """Weights large enough for an untrained model to be sure of something."""
    for name, weights in model.named_parameters():
        if "class_predictor" in name or "class_embed" in name:
            weights.data *= 60
        if "mask_embed" in name and name.endswith("weight"):
            weights.data *= 4
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "labels", "num_things"),
    [(save_maskformer, COCO, 80), (save_oneformer, {0: "wall", 1: "bed", 2: "sky"}, 1)],
)
def test_other_architectures_answer(tmp_path, save, labels, num_things):
    torch.manual_seed(0)
    save(tmp_path, labels)
    segmenter = UniversalSegmenter(str(tmp_path), batch_size=2, threshold=0.0)
    assert [category.label for category in segmenter.categories][-1] == "sky"
    assert sum(category.is_thing for category in segmenter.categories) == num_things
    noise = np.random.default_rng(0).integers(0, 255, (5, 12, 16, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels.repeat(6, 0).repeat(6, 1)) for pixels in noise]
    answers = list(segmenter.segment([Picture("a", lambda image=image: image) for image in images]))
    assert [answer.size for answer in answers] == [(96, 72)] * 5
    segments = [segment for answer in answers for segment in answer.segments]
    assert segments
    for segment in segments:
        x1, y1, x2, y2 = segment.box_px
        assert 0 <= x1 < x2 <= 96
        assert 0 <= y1 < y2 <= 72
        assert 0 < segment.area_px <= segment.box_px.area
