"""Videos are pooled as a plain twin does it, and train and answer in any mixture as they do alone."""

import numpy as np
import pytest
import torch

from locvlm.data.clips import Frames
from locvlm.data.collate import collate
from locvlm.data.packing import PackingConfig, plan_step
from locvlm.data.tokenize import Branch, TokenizedSample
from locvlm.model import video as video_module
from locvlm.model.freeze import freeze
from locvlm.model.generate import answer_one, generate_answers
from locvlm.model.likelihood import answer_likelihoods, likelihood_of_one
from locvlm.model.locvlm import LocVLM
from locvlm.model.shared_prefix import PromptGroup
from locvlm.model.video import FRAMES_PER_CHUNK, VideoPooling, Visuals, pool_clip, pool_frames
from locvlm.model.vision import patch_features
from locvlm.spec import VisionSpec

IMAGE, PAD, EOS, NUM_PATCHES = 60, 61, 2, 4
NUM_FRAMES = 5
VISION = VisionSpec(canvas=8, patch=4, num_frames=NUM_FRAMES)
TOLERANCE = 1e-10  # relative, in fp64


@pytest.fixture
def build_video_model(build_model):
    """build_video_model(num_frames=5, order=..., pad_frames=..., **as build_model)."""

    def build(
        num_frames: int = NUM_FRAMES, *, exact: bool = True, seed: int = 0, **pooling: object
    ) -> LocVLM:
        model = build_model(exact=exact, seed=seed)
        told = {"num_frames": num_frames, "order": "temporal_spatial", "pad_frames": None, **pooling}
        model.config.locvlm = {"video": told}
        return model

    return build


def pictures(num: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(num, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_pooling(patches: torch.Tensor, order: str, pad_frames: int | None) -> torch.Tensor:
    """Sums in loops, over one number after another."""
    num_frames, num_patches, width = patches.shape
    values = patches.tolist()
    temporal = [
        [sum(values[k][p][d] for p in range(num_patches)) / num_patches for d in range(width)]
        for k in range(num_frames)
    ]
    temporal += [[0.0] * width] * ((pad_frames or num_frames) - num_frames)
    spatial = [
        [sum(values[k][p][d] for k in range(num_frames)) / num_frames for d in range(width)]
        for p in range(num_patches)
    ]
    tokens = [*temporal, *spatial] if order == "temporal_spatial" else [*spatial, *temporal]
    return torch.tensor(tokens, dtype=torch.float64)


@pytest.mark.parametrize("pad_frames", [None, 7, 12])
@pytest.mark.parametrize("order", ["temporal_spatial", "spatial_temporal"])
def test_pooling_is_the_plain_twins(order, pad_frames):
    patches = torch.randn(7, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pooled = pool_frames(patches, order=order, pad_frames=pad_frames)
    assert pooled.shape == ((pad_frames or 7) + 4, 6)
    assert torch.allclose(pooled, plain_pooling(patches, order, pad_frames), rtol=1e-14, atol=1e-15)
    zeros = slice(7, pad_frames) if order == "temporal_spatial" else slice(4 + 7, None)
    assert not pooled[zeros if pad_frames else slice(0, 0)].any()


def test_the_example_of_the_docstring():
    patches = torch.tensor([[[1.0], [3.0]], [[5.0], [7.0]]])
    assert pool_frames(patches).flatten().tolist() == [2, 6, 3, 5]
    assert pool_frames(patches, order="spatial_temporal", pad_frames=3).flatten().tolist() == [3, 5, 2, 6, 0]


def test_means_of_many_bf16_frames_are_taken_in_fp32():
    patches = torch.full((400, 2, 1), 1.0, dtype=torch.bfloat16)
    patches[0] = 257.0  # a running sum in bf16 would stay at 256
    assert pool_frames(patches)[-1].item() == torch.tensor((257 + 399) / 400).bfloat16().item()


@pytest.mark.parametrize("num_frames", [1, FRAMES_PER_CHUNK, 2 * FRAMES_PER_CHUNK + 3])
def test_a_clip_is_pooled_from_its_frames_one_by_one_through_the_tower_in_chunks(
    build_video_model, num_frames
):
    model = build_video_model(num_frames)
    freeze(model, train=("vision_tower", "adapter", "llm"))
    sizes = []
    hook = model.model.vision_tower.encoder.layers[0].register_forward_hook(
        lambda _, inputs, __: sizes.append(len(inputs[0]))
    )
    frames = pictures(num_frames)
    pooled = pool_clip(model, frames)
    hook.remove()
    assert not pooled.requires_grad
    assert sizes == [16] * (num_frames // 16) + [num_frames % 16] * (num_frames % 16 > 0)
    alone = torch.cat([patch_features(model.model.vision_tower, frame[None]) for frame in frames])
    assert torch.allclose(
        pooled, plain_pooling(alone, "temporal_spatial", None), rtol=1e-12, atol=1e-13
    )  # the tower's products in batches of another size
    assert pooled.shape == (model.spec.num_video_tokens, 16)


def test_the_sizes_for_the_data_pipeline_count_frames(build_video_model, build_model):
    assert build_video_model(100).spec.num_video_tokens == 100 + NUM_PATCHES
    padded = build_video_model(8, pad_frames=100)
    assert (padded.spec.num_frames, padded.spec.num_video_tokens) == (8, 100 + NUM_PATCHES)
    assert padded.video == VideoPooling(num_frames=8, pad_frames=100)
    images_alone = build_model()
    assert (images_alone.spec.num_frames, images_alone.video) == (0, None)
    assert VisionSpec(canvas=224, patch=14, num_frames=100).num_video_tokens == 356  # the paper's


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"num_frames": 0}, "at least 1"),
        ({"num_frames": 8, "pad_frames": 5}, "at least num_frames"),
        ({"num_frames": 8, "order": "spatial"}, "order"),
        ({"frames": 8}, "frames"),
    ],
)
def test_a_wrong_video_configuration_is_an_error(build_model, told, message):
    model = build_model()
    model.config.locvlm = {"video": told}
    with pytest.raises(ValueError, match=message):
        _ = model.spec


# ---- packed rows


def dialogue(start: int, num_question: int, num_answer: int) -> Branch:
    return Branch(
        ids=[start + i for i in range(num_question + num_answer)],
        supervised=(False,) * num_question + (True,) * num_answer,
    )


def sample(name: str, num_visual: int, start: int) -> TokenizedSample:
    return TokenizedSample(
        id=name,
        prefix_ids=[1, 3, *[IMAGE] * num_visual],
        branches=(dialogue(start, 3, 2), dialogue(start + 4, 1, 4)),
        num_images=int(num_visual > 0),
    )


def mixture(model: LocVLM) -> tuple[list[TokenizedSample], dict]:
    """Images, live and cached videos and text, and what each is shown."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (4, NUM_FRAMES, 3, 8, 8), dtype=np.uint8)
    clips = [Frames(of_clip, VISION) for of_clip in levels]
    num_video = model.spec.num_video_tokens
    kinds = ["live", "image", "cached", "text", "live", "cached", "image"]
    sizes = {"live": num_video, "cached": num_video, "image": NUM_PATCHES, "text": 0}
    samples = [sample(f"{kind} {k}", sizes[kind], 5 + 5 * k) for k, kind in enumerate(kinds)]
    frames = iter(clips)
    shown = {}
    for k, kind in enumerate(kinds):
        if kind == "image":
            shown[k] = rng.standard_normal((3, 8, 8), dtype=np.float32)
        elif kind != "text":
            shown[k] = next(frames)
            if kind == "cached":
                shown[k] = pool_clip(model, torch.from_numpy(shown[k].normalised()))
    return samples, shown


def batch_of(samples: list[TokenizedSample], shown: dict, num_rows: int, mode: str = "shared_prefix") -> dict:
    plan = plan_step(
        samples, PackingConfig(mode=mode, max_row_tokens=256), accumulation=1, rows_per_accumulation=num_rows,
        pad_token_id=PAD,
    )  # fmt: skip
    return collate(plan.passes[0], pixels=shown, pad_token_id=PAD, num_targets=plan.num_targets)


def gradients_of(model: LocVLM) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("train", [("adapter",), ("adapter", "llm")], ids=str)
@pytest.mark.parametrize("num_rows", [1, 3])
@pytest.mark.parametrize("order", ["temporal_spatial", "spatial_temporal"])
def test_a_mixed_batch_trains_as_its_samples_one_at_a_time(build_video_model, order, num_rows, train):
    model = build_video_model(order=order, pad_frames=9)
    freeze(model, train=train)
    samples, shown = mixture(model)
    batch = batch_of(samples, shown, num_rows)
    assert {0, NUM_FRAMES, -1} == set(batch["frames_per_visual"].tolist())
    loss = model(**batch).loss
    loss.backward()
    together = gradients_of(model)
    model.zero_grad()
    total = 0.0
    for index, one in enumerate(samples):
        alone = batch_of([one], {0: shown[index]} if index in shown else {}, 2, "separate")
        alone_loss = model(**{**alone, "num_targets": batch["num_targets"]}).loss
        total += float(alone_loss.detach())
        if alone_loss.requires_grad:  # of text alone, nothing reaches the adapter
            alone_loss.backward()
    assert total == pytest.approx(float(loss.detach()), rel=TOLERANCE)
    one_by_one = gradients_of(model)
    assert together.keys() == one_by_one.keys()
    assert any("projector" in name for name in together)
    largest = max(gradient.norm() for gradient in one_by_one.values())
    for name, gradient in one_by_one.items():
        assert gradient.norm() > 0 or "k_proj" in name, name
        assert (together[name] - gradient).norm() <= TOLERANCE * max(gradient.norm(), 1e-5 * largest), name


def test_every_video_matters_and_its_order_too(build_video_model):
    model = build_video_model()
    samples, shown = mixture(model)
    loss = model(**batch_of(samples, shown, 1)).loss
    turned = build_video_model(order="spatial_temporal")
    live = {k: v for k, v in shown.items() if not isinstance(v, torch.Tensor)}
    kept = [k for k in range(len(samples)) if k in live or k == 3]
    again = {new: live[old] for new, old in enumerate(kept) if old in live}
    assert not torch.isclose(
        *(m(**batch_of([samples[k] for k in kept], again, 1)).loss for m in (model, turned)), rtol=1e-6
    )
    for index, what in shown.items():
        changed = what * 1.01 if not isinstance(what, Frames) else Frames(255 - what.levels, VISION)
        assert not torch.isclose(
            model(**batch_of(samples, {**shown, index: changed}, 1)).loss, loss, rtol=1e-9
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_autocast", [False, True])
def test_a_cache_holds_bit_for_bit_what_live_pooling_gives(build_video_model, dtype, is_autocast):
    model = build_video_model(FRAMES_PER_CHUNK + 3, exact=False).to(dtype)
    clips = [pictures(FRAMES_PER_CHUNK + 3, seed, torch.float32) for seed in range(3)]
    stills = pictures(2, 9, torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        stored = torch.stack([pool_clip(model, clip) for clip in clips])
        live = video_module.visual_tokens(
            model,
            Visuals(
                torch.cat([stills[:1], clips[0], clips[1], stills[1:], clips[2]]),
                torch.tensor([0, 19, 19, 0, 19]),
            ),
        )
        cached = video_module.visual_tokens(model, Visuals(stills, torch.tensor([0, -1, -1, 0, -1]), stored))
        for a, b in zip(live, cached, strict=True):
            assert torch.equal(model.model.multi_modal_projector(a), model.model.multi_modal_projector(b))
    for index, at in enumerate((1, 2, 4)):
        assert torch.equal(live[at], stored[index])


def test_images_of_a_video_model_are_what_they_were(build_video_model, build_model):
    """With and without `frames_per_visual`, which tells images apart from videos."""
    inputs = {"input_ids": torch.tensor([[1, *[IMAGE] * 4, 5], [1, *[IMAGE] * 4, 6]])}
    pixels = pictures(2)
    expected = build_model()(**inputs, pixel_values=pixels).logits
    model = build_video_model()
    assert torch.equal(model(**inputs, pixel_values=pixels).logits, expected)
    told = model(**inputs, pixel_values=pixels, frames_per_visual=torch.tensor([0, 0])).logits
    assert torch.equal(told, expected)


@pytest.mark.parametrize(
    ("visuals", "message"),
    [
        ({"pixel_values": 5, "frames_per_visual": [4]}, "asks for 4 of pixel_values"),
        ({"pixel_values": 5, "frames_per_visual": [5, -1]}, "1 of pooled_features, got 5 and 0"),
        ({"pixel_values": 5, "frames_per_visual": [-2]}, "frames_per_visual"),
        ({"pixel_values": 4, "frames_per_visual": [4]}, "by 5 frames .* got 4"),
        (
            {"pooled_features": (1, 8, 16), "frames_per_visual": [-1]},
            r"are \(8, 16\), this model's are \(9, 16\)",
        ),
        ({"pooled_features": (1, 9, 16)}, "asks for 0 of pixel_values and 0 of pooled_features, got 0 and 1"),
    ],
)
def test_visuals_that_do_not_fit_are_an_error(build_video_model, visuals, message):
    made = {
        "pixel_values": lambda n: pictures(n),
        "pooled_features": lambda shape: torch.zeros(shape, dtype=torch.float64),
        "frames_per_visual": torch.tensor,
    }
    inputs = {name: made[name](value) for name, value in visuals.items()}
    with pytest.raises(ValueError, match=message):
        build_video_model()(input_ids=torch.tensor([[1, *[IMAGE] * 9, 5]]), **inputs)


def test_a_model_of_images_refuses_videos(build_model):
    model, ids = build_model(), torch.tensor([[1, *[IMAGE] * 9, 5]])
    with pytest.raises(ValueError, match=r"images alone: its config\.json has no locvlm\.video"):
        model(input_ids=ids, pixel_values=pictures(5), frames_per_visual=torch.tensor([5]))
    with pytest.raises(ValueError, match="images alone"):
        model(
            input_ids=ids,
            pooled_features=torch.zeros(1, 9, 16, dtype=torch.float64),
            frames_per_visual=torch.tensor([-1]),
        )


def test_other_feature_choices_are_refused_for_videos(build_video_model):
    model, ids = build_video_model(), torch.tensor([[1, *[IMAGE] * 9, 5]])
    video = {"pixel_values": pictures(5), "frames_per_visual": torch.tensor([5])}
    for layer in (-1, [-2, -1]):
        with pytest.raises(ValueError, match="the config's one layer, without CLS"):
            model(input_ids=ids, **video, vision_feature_layer=layer)
    with pytest.raises(ValueError, match="the config's one layer, without CLS"):
        model(input_ids=ids, **video, vision_feature_select_strategy="full")
    assert model(input_ids=ids, **video).logits.isfinite().all()


# ---- answers


def groups_of_all_kinds() -> list[PromptGroup]:
    """Many questions about two videos, an image and nothing, with prefixes of unequal length."""
    video, image = (IMAGE,) * (NUM_FRAMES + NUM_PATCHES), (IMAGE,) * NUM_PATCHES
    return [
        PromptGroup(
            pixel_values=pictures(5, 1), prompts=((1, *video, 5, 6), (1, *video, 7, 8, 9), (1, *video, 12))
        ),
        PromptGroup(
            pixel_values=pictures(1, 2)[0], prompts=((1, 20, 21, *image, 22), (1, 20, 21, *image, 9, 8))
        ),
        PromptGroup(pixel_values=None, prompts=((1, 30, 31), (1, 30, 32, 33))),
        PromptGroup(
            pixel_values=pictures(5, 3), prompts=((1, 8, *video, 40, 41), (1, 8, *video, 40, 42, 43))
        ),
    ]


@pytest.mark.parametrize("order", ["temporal_spatial", "spatial_temporal"])
def test_answers_about_videos_in_batches_are_those_of_one_prompt_alone(build_video_model, order):
    model = build_video_model(order=order).eval()
    groups = groups_of_all_kinds()
    options = {"eos_token_id": EOS, "pad_token_id": PAD, "max_new_tokens": 8}
    expected = [
        [answer_one(model, p, g.pixel_values, eos_token_id=EOS, max_new_tokens=8) for p in g.prompts]
        for g in groups
    ]
    runs = []
    hook = model.model.vision_tower.embeddings.register_forward_hook(
        lambda _, inputs, __: runs.append(len(inputs[0]))
    )
    assert generate_answers(model, groups, **options) == expected
    hook.remove()
    assert sorted(runs) == [1, 5, 5]  # each video and the image once, whatever is asked about it
    assert len({tuple(answer) for answers in expected for answer in answers}) > 5
    beams = generate_answers(model, groups, **options, beams=3)
    assert beams == [generate_answers(model, [group], **options, beams=3)[0] for group in groups]


def test_likelihoods_about_videos_in_batches_are_those_of_one_prompt_alone(build_video_model):
    model = build_video_model().eval()
    groups = [
        PromptGroup(
            pixel_values=g.pixel_values,
            prompts=tuple((*prompt, 50 + k, 17) for k, prompt in enumerate(g.prompts)),
            answer_starts=tuple(len(prompt) for prompt in g.prompts),
        )
        for g in groups_of_all_kinds()
    ]
    found = answer_likelihoods(model, groups, pad_token_id=PAD)
    for group, of_group in zip(groups, found, strict=True):
        for prompt, start, nats in zip(group.prompts, group.answer_starts, of_group, strict=True):
            alone = likelihood_of_one(model, prompt, group.pixel_values, answer_start=start)
            assert nats == pytest.approx(alone, abs=1e-10)


def test_stock_generate_takes_videos_with_the_prompt(build_video_model):
    model = build_video_model().eval()
    video = [IMAGE] * (NUM_FRAMES + NUM_PATCHES)
    frames, prompt = pictures(5, 1), [1, *video, 5, 6]
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": PAD, "eos_token_id": EOS}
    options["suppress_tokens"] = [IMAGE]
    inputs = {"input_ids": torch.tensor([prompt, prompt])}
    live = {"pixel_values": torch.cat([frames, pictures(5, 3)]), "frames_per_visual": torch.tensor([5, 5])}
    got = model.generate(**inputs, **live, **options)[:, len(prompt) :]
    for row, of_row in zip(got.tolist(), (frames, pictures(5, 3)), strict=True):
        alone = answer_one(model, prompt, of_row, eos_token_id=EOS, max_new_tokens=6)
        assert row[: len(alone)] == alone
        assert alone
    features = torch.stack([pool_clip(model, frames), pool_clip(model, pictures(5, 3))])
    cached = {"pooled_features": features, "frames_per_visual": torch.tensor([-1, -1])}
    for use_cache in (True, False):
        again = model.generate(**inputs, **cached, **options, use_cache=use_cache)
        assert torch.equal(again[:, len(prompt) :], got)
    with pytest.raises(ValueError, match="cannot repeat rows with videos"):
        model.generate(**inputs, **live, **options, num_beams=2)
