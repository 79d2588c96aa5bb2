"""Which captioner a program uses, from its command line. Models are loaded only when one is opened."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locvlm.answering.options import DTYPES, add_server_options, is_url, open_server
from locvlm.building.captioning.captioner import Captioner

if TYPE_CHECKING:
    from locvlm.building.captioning.cycle import CycleCheck
    from locvlm.building.captioning.own import OwnCaptioner

_LEAVE_ANSWERS = ("device", "batch_size", "key_variable", "concurrency", "timeout", "retries", "max_failures")


def add_captioner_options(parser: argparse.ArgumentParser) -> None:
    """The options that `open_captioner` reads."""
    group = parser.add_argument_group("the captioner")
    group.add_argument(
        "--captioner",
        metavar="MODEL",
        help="a run or checkpoint folder of ours, a Hugging Face folder or name, or the URL of a server",
    )
    group.add_argument("--adapter", type=Path, help="adapter-only folder of stage 1, put into the captioner")
    group.add_argument(
        "--prompt-format", default="", help="'USER: <image>\\n{prompt} ASSISTANT:' and the like"
    )
    group.add_argument("--max-new-tokens", type=int, default=96)
    group.add_argument("--batch-size", type=int, default=32, metavar="N", help="prompts answered together")
    group.add_argument("--dtype", choices=DTYPES, default="float32")
    group.add_argument("--device", default="", help="as torch names it; a GPU if there is one")
    add_server_options(parser, "where the captioner is a server")


def deciding(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments without those that leave the answers as they are.

    Where a server runs is one of them: it is another host in each job, also for the shards of one build.
    """
    kept = {name: value for name, value in vars(args).items() if name not in _LEAVE_ANSWERS}
    if is_url(args.captioner or ""):
        kept["captioner"] = "a server"
    return argparse.Namespace(**kept)


def open_captioner(args: argparse.Namespace) -> Captioner:
    """The captioner that the options name.

    Raises:
        ValueError: if it cannot be loaded, or options do not go together.
        ServerError: if its server does not answer.
    """
    name: str = args.captioner
    if args.max_new_tokens < 1 or args.batch_size < 1:
        raise ValueError(
            f"--max-new-tokens and --batch-size must be 1 or more, got {args.max_new_tokens} and "
            f"{args.batch_size}"
        )
    if is_url(name):
        return _open_server(args)
    if (own := _open_own(args, name, adapter=args.adapter)) is not None:
        return own
    if args.adapter is not None:
        raise ValueError(f"--adapter goes into a checkpoint of ours, and {name} is none")
    from locvlm.building.captioning.huggingface import load_huggingface_captioner

    return load_huggingface_captioner(
        name,
        max_new_tokens=args.max_new_tokens,
        prompts_per_batch=args.batch_size,
        prompt_format=args.prompt_format.replace("\\n", "\n"),  # as a shell passes it
        dtype=args.dtype,
        device=args.device,
    )


def open_cycle(args: argparse.Namespace, captioner: Captioner) -> "CycleCheck | None":
    """The cycle check by `--cycle-model`, or by the captioner; None if none is asked for.

    Raises:
        ValueError: for a model without a coordinate contract, or one that writes points.
    """
    if args.cycle_check is None:
        return None
    from locvlm.building.captioning.cycle import CycleCheck

    model: Any = captioner if args.cycle_model is None else _open_own(args, args.cycle_model)
    contract = getattr(model, "contract", None)  # only checkpoints of ours say
    if contract is None:
        raise ValueError(
            f"the cycle check reads boxes, and {args.cycle_model or args.captioner} has no coordinate "
            f"contract that says in which frame and codec; give a checkpoint of ours that was taught "
            f"locations: --cycle-model FOLDER"
        )
    return CycleCheck(model=model, contract=contract, min_iou=args.cycle_check, seed=args.seed)


def _open_own(args: argparse.Namespace, name: str, adapter: Path | None = None) -> "OwnCaptioner | None":
    """The checkpoint of ours in the folder `name`; None if there is none."""
    from locvlm.building.captioning.own import find_checkpoint, load_own_captioner

    found = find_checkpoint(Path(name))
    if found is None:
        return None
    return load_own_captioner(
        found if adapter is None else replace(found, adapter=adapter),
        name=name,
        max_new_tokens=args.max_new_tokens,
        prompts_per_batch=args.batch_size,
        dtype=args.dtype,
        device=args.device,
    )


def _open_server(args: argparse.Namespace) -> Captioner:
    from locvlm.building.captioning.server import ServerCaptioner

    return ServerCaptioner(server=open_server(args.captioner, args), max_new_tokens=args.max_new_tokens)
