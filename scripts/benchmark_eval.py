"""Speed of batched answers against one question at a time, same model and questions; and how many agree.

    python scripts/benchmark_eval.py --out benchmarks/results/eval.json

A model of random weights (or --model) is asked several questions about each of some images: one after another
by the library's `generate`, which encodes the image and reads the whole prompt for each; and in batches. Both
get the same pixels and ids and write --new-tokens tokens. The two take turns, the medians count. For every
precision it says how many answers are equal token by token. In bf16 rounding decides between tokens that are
about as likely, which those of random weights are more often than those of a trained model. Seconds are worth
something with nothing else running.
"""

import argparse
import os
import random
import time
from pathlib import Path
from statistics import median
from typing import Any

from locvlm.io import write_json
from locvlm.runs import environment

VOCABULARY, IMAGE_TOKEN, PAD_TOKEN, END_TOKEN = 32_000, 31_999, 31_998, 2


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, help="checkpoint folder, instead of random weights")
    parser.add_argument("--hidden", type=int, default=512, help="width of the random language model")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--canvas", type=int, default=224, help="pixels; patches of 14, so 256 visual tokens")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, default=8, help="about each image")
    parser.add_argument("--new-tokens", type=int, default=20, help="of an answer: a location takes about 20")
    parser.add_argument("--max-batch-tokens", type=int, default=32768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON to write; the table is printed in any case")
    return parser.parse_args()


def random_model(args: argparse.Namespace) -> Any:
    """A LocVLM of this size; its tower is half as deep, and as wide."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig

    from locvlm.model.locvlm import LocVLM
    from locvlm.model.variants import llava_config

    torch.manual_seed(0)
    heads = max(1, args.hidden // 64)
    vision = CLIPVisionConfig(
        hidden_size=args.hidden,
        intermediate_size=4 * args.hidden,
        num_hidden_layers=max(2, args.layers // 2),
        num_attention_heads=heads,
        image_size=args.canvas,
        patch_size=14,
    )
    text = LlamaConfig(
        hidden_size=args.hidden,
        intermediate_size=8 * args.hidden // 3,
        num_hidden_layers=args.layers,
        num_attention_heads=heads,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
    )
    return LocVLM(llava_config(vision, text, "mlp", image_token_id=IMAGE_TOKEN, pad_token_id=PAD_TOKEN))


def ask_about(model: Any, args: argparse.Namespace) -> list[Any]:
    """Groups of prompts: a system sentence of 40 tokens, the image, a question of 10 to 30."""
    import torch

    from locvlm.model.shared_prefix import PromptGroup

    rng, canvas = random.Random(0), model.spec.canvas
    image = [model.config.image_token_id] * model.spec.num_image_tokens
    words = range(3, min(model.config.image_token_id, model.text_spec.pad_token_id))
    head = [1, *rng.choices(words, k=40), *image]
    return [
        PromptGroup(
            pixel_values=torch.randn(3, canvas, canvas, generator=torch.Generator().manual_seed(index)),
            prompts=tuple((*head, *rng.choices(words, k=rng.randint(10, 30))) for _ in range(args.questions)),
        )
        for index in range(args.images)
    ]


def one_at_a_time(model: Any, groups: list[Any], args: argparse.Namespace) -> list[list[int]]:
    """Every answer by a call of the library's `generate`."""
    import torch
    from transformers import GenerationConfig

    settings = GenerationConfig(
        max_new_tokens=args.new_tokens,
        do_sample=False,
        pad_token_id=model.text_spec.pad_token_id,
        suppress_tokens=[model.config.image_token_id],
    )
    model.generation_config = GenerationConfig()  # which would fill in an end token
    answers = []
    for group in groups:
        pixels = group.pixel_values[None].to(model.device, model.dtype)
        for prompt in group.prompts:
            ids = torch.tensor([prompt], device=model.device)
            generated = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels,
                generation_config=settings,
            )
            answers.append(generated[0, ids.shape[1] :].tolist())
    return answers


def in_batches(model: Any, groups: list[Any], args: argparse.Namespace) -> list[list[int]]:
    """Every answer as an evaluation generates it."""
    from dataclasses import replace

    from locvlm.answering.batches import plan_batches
    from locvlm.model.generate import generate_answers

    found = {}
    for batch in plan_batches(groups, max_tokens=args.max_batch_tokens, new_tokens=args.new_tokens):
        answers = generate_answers(
            model,
            [replace(piece.prompts, pixel_values=groups[piece.group].pixel_values) for piece in batch],
            eos_token_id=-1,  # none, so that all answers are equally long
            pad_token_id=model.text_spec.pad_token_id,
            max_new_tokens=args.new_tokens,
        )
        for piece, of_piece in zip(batch, answers, strict=True):
            found.update({(piece.group, m): ids for m, ids in zip(piece.members, of_piece, strict=True)})
    return [found[key] for key in sorted(found)]


def measure(model: Any, groups: list[Any], args: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, after a question that warms up."""
    import torch

    ways = {"one_at_a_time_s": one_at_a_time, "in_batches_s": in_batches}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers = {}
    for way in ways.values():
        way(model, groups[:1], args)
    for _ in range(args.repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            answers[name] = way(model, groups, args)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    one, many = (median(values) for values in seconds.values())
    equal = [a == b for a, b in zip(*answers.values(), strict=True)]
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "times_faster": round(one / many, 2),
        **{name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "questions_per_s": round(len(equal) / many, 2),
        "equal_answers_fraction": sum(equal) / len(equal),
    }


def main() -> None:
    """Every precision on the same weights and questions."""
    args = parse_arguments()

    import torch

    from locvlm.model.locvlm import LocVLM

    torch.set_num_threads(args.threads)
    model: Any = random_model(args) if args.model is None else LocVLM.from_pretrained(args.model)
    model.eval().to(args.device)
    rows = []
    for dtype in args.dtypes:
        model.to(getattr(torch, dtype))
        groups = ask_about(model, args)
        rows.append(row := measure(model, groups, args))
        print(row, flush=True)
    if args.out:
        cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "")
        gpu = torch.cuda.get_device_name() if args.device.startswith("cuda") else None
        software = {name: value for name, value in environment().items() if name not in ("argv", "seeds")}
        machine = {**software, "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "gpu": gpu}
        settings = {name: value for name, value in vars(args).items() if name not in ("model", "out")}
        write_json(args.out, {"settings": settings, "machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
