"""What test_videos.py starts: three steps of SGD on batches with videos, on one rank or on two with ZeRO-3.

python tests/distributed/video_ranks.py OUT.pt
torchrun --nproc_per_node 2 tests/distributed/video_ranks.py OUT.pt
"""

import sys

import torch

from locvlm import dist
from locvlm.model.adapter import reset_adapter
from locvlm.model.freeze import freeze
from locvlm.model.last_layer import widen_last_layer
from locvlm.model.locvlm import LocVLM
from locvlm.model.variants import llava_config
from locvlm.model.video import FRAMES_PER_CHUNK

NUM_FRAMES, IMAGE, LEARNING_RATE = 2 * FRAMES_PER_CHUNK + 3, 60, 0.05
NUM_TOKENS = {0: 4, NUM_FRAMES: NUM_FRAMES + 4, -1: NUM_FRAMES + 4}
STEPS = (  # what each of the two ranks is shown: images, videos, videos from a cache, nothing
    ([NUM_FRAMES, 0], []),
    ([-1], [0, 0]),
    ([-1, -1], [NUM_FRAMES, -1, NUM_FRAMES]),
    ([0], None),  # nothing, and nothing of its text is supervised
)


def build_model() -> LocVLM:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
    )  # after locvlm, whose remedy for torchvision it needs

    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vision = CLIPVisionConfig(**sizes, hidden_size=16, image_size=8, patch_size=4, projection_dim=8)
    text = LlamaConfig(**sizes, hidden_size=24, vocab_size=64, max_position_embeddings=256)
    model = LocVLM(llava_config(vision, text, "mlp", image_token_id=IMAGE, pad_token_id=61))
    reset_adapter(model.model.multi_modal_projector, "mlp", seed=0)
    model.config.locvlm = {"video": {"num_frames": NUM_FRAMES}}
    freeze(model, train=("adapter", "llm"))
    return model.train()


def batch(shown: list[int] | None, seed: int, num_targets: float) -> dict:
    """One row: a tree for each visual, or one of text, of which the last two tokens are supervised."""
    is_supervised, shown = shown is not None, shown or []
    generator = torch.Generator().manual_seed(seed)
    ids, positions, samples, targets = [], [], [], []
    for number, size in enumerate(shown or [None]):
        tree = [1, *[IMAGE] * NUM_TOKENS.get(size, 0), 5 + number, 9, 12]
        if is_supervised:
            targets += [len(ids) + len(tree) - 3, len(ids) + len(tree) - 2]
        ids, positions = ids + tree, positions + list(range(len(tree)))
        samples += [number] * len(tree)
    num_pictures = sum(max(size, 1) for size in shown if size != -1)
    given = {}
    if num_pictures:
        given["pixel_values"] = torch.randn(num_pictures, 3, 8, 8, generator=generator)
    if -1 in shown:
        given["pooled_features"] = torch.randn(shown.count(-1), NUM_FRAMES + 4, 16, generator=generator)
    if any(shown):
        given["frames_per_visual"] = torch.tensor(shown)
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "sample_ids": torch.tensor([samples]),
        "branch_ids": torch.zeros(1, len(ids), dtype=torch.long),
        "target_index": torch.tensor(targets, dtype=torch.long),
        "target_ids": torch.tensor(ids)[[target + 1 for target in targets]],
        "target_weights": torch.ones(len(targets)),
        "num_targets": num_targets,
        **given,
    }


def batches(step: int) -> list[dict]:
    """Of both ranks."""
    num_targets = sum(2 * max(len(shown), 1) for shown in STEPS[step] if shown is not None)
    return [batch(shown, 10 * step + rank, float(num_targets)) for rank, shown in enumerate(STEPS[step])]


def train_alone() -> tuple[LocVLM, list[int]]:
    """With a last layer that computes all rows."""
    model = build_model()
    widen_last_layer(model.model.language_model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    for step in range(len(STEPS)):
        for of_rank in batches(step):
            model(**of_rank).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, []


def train_together() -> tuple[LocVLM, list[int]]:
    """With ZeRO-3; how often the tower was run in each step."""
    import deepspeed

    dist.prepare_deepspeed_cpu()
    model = build_model()
    trained = [p for p in model.parameters() if p.requires_grad]
    zero = {"stage": 3, "stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": 0}
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 0.0,  # 1.0 otherwise
    }
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.SGD(trained, lr=LEARNING_RATE), config=settings
    )
    calls = [0] * len(STEPS)
    for step in range(len(STEPS)):

        def count(*_, step=step):
            calls[step] += 1

        hook = model.model.vision_tower.encoder.layers[0].register_forward_hook(count)
        of_rank = batches(step)[dist.rank()]
        engine.backward(engine(**of_rank).loss * dist.world_size())  # the engine takes the mean over ranks
        engine.step()
        hook.remove()
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        return build_model_from(model), calls


def build_model_from(model: LocVLM) -> LocVLM:
    """A copy of gathered weights."""
    copy = build_model()
    copy.load_state_dict({name: weight.clone() for name, weight in model.state_dict().items()})
    return copy


def main() -> None:
    model, calls = train_together() if dist.expected_world_size() > 1 else train_alone()
    path = sys.argv[1] if dist.rank() == 0 else sys.argv[1] + ".other"
    torch.save({"weights": model.state_dict(), "start": build_model().state_dict(), "calls": calls}, path)
    dist.leave()


if __name__ == "__main__":
    main()
