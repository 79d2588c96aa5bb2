"""Which model a program asks, from its command line. Models are loaded only when one is opened.

--model runs/stage2/final           a checkpoint of ours, or an export of one
--model llava-hf/llava-1.5-7b-hf    LLaVA, BLIP-2, InstructBLIP or Kosmos-2 as transformers has them: a
                                    folder, or a name on the hub
--model http://node7:8000/v1        a server
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locvlm.answering.answerer import Answerer
from locvlm.chat_server import ChatServer, ServerOptions
from locvlm.io import read_json

DTYPES = ("float32", "bfloat16", "float16", "float64")
_LLAVA = "llava"
_UNUSED = ("*.bin", "*.pth", "*.pt", "*.msgpack", "*.h5", "*.onnx", "*.gguf")  # of a hub's folder
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A model that is ready to answer, and what tells it from others."""

    answerer: Answerer
    name: str  # as it was given; of a server, what it calls its model
    fingerprint: str  # of the weights: of files here, or the hub's revision; of a server, the name alone
    description: str  # one line: what it is, how it is asked, how it writes locations

    @property
    def checkpoint(self) -> tuple[str, str]:
        """What predictions are marked with."""
        return self.name, self.fingerprint


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options that `open_model` reads."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="checkpoint folder, ours or an export, or a LoRA run's; a Hugging Face folder or name; or a URL",
    )
    parser.add_argument("--adapter", type=Path, help="adapter-only folder of stage 1, put into the model")
    parser.add_argument("--base", type=Path, help="starting checkpoint of a LoRA run, if it has moved")
    parser.add_argument(
        "--convention",
        default="",
        metavar="NAME",
        help="how a server's model, or a LLaVA of another training, writes locations: llava, shikra, "
        "thousand, kosmos2, none, or the folder of a checkpoint of ours",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument(
        "--max-batch-tokens",
        type=int,
        default=32768,
        help="tokens decoded together, those of the answers included; a 7B model in bf16: 0.5 MB each",
    )
    add_server_options(parser, "where the model is a server")


def add_server_options(parser: argparse.ArgumentParser, title: str) -> None:
    """The options that `open_server` reads."""
    server = parser.add_argument_group(title)
    server.add_argument("--served-model", default="", help="its name there, if there are several")
    server.add_argument("--key-variable", default="", help="environment variable with the API key")
    server.add_argument("--concurrency", type=int, default=16, help="prompts with the server at a time")
    server.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds for an answer")
    server.add_argument("--retries", type=int, default=6, help="of a prompt, each after a longer wait")
    server.add_argument(
        "--max-failures", type=int, default=20, metavar="N", help="in a row, then the server counts as down"
    )


def is_url(name: str) -> bool:
    """Whether a model's name is where a server is."""
    return "://" in name


def open_server(url: str, args: argparse.Namespace) -> ChatServer:
    """The server at `url`, asked as patiently as the options say.

    Raises:
        ValueError: for a URL of another form, or a key that is not there.
        ServerError: if it does not answer.
    """
    options = ServerOptions(
        url=url,
        model=args.served_model,
        key_variable=args.key_variable,
        concurrency=args.concurrency,
        timeout_s=args.timeout,
        num_retries=args.retries,
        max_failures_in_a_row=args.max_failures,
    )
    return ChatServer(options)


def open_model(args: argparse.Namespace) -> Opened:
    """The model that the options name.

    Raises:
        ValueError: if it cannot be loaded, is of a type that nobody knows how to ask here, or options do not
            go together.
        ServerError: if its server does not answer.
    """
    if is_url(args.model):
        return _open_server_model(args)
    folder = _find_folder(args.model)
    config = folder / "config.json"
    if config.is_file() and not read_json(config).get("locvlm"):
        return _open_foreign(args, folder)
    if args.convention:
        raise ValueError(
            f"--convention is for models of others; {args.model} says in its config.json how it writes "
            f"locations"
        )
    return _open_ours(args, folder)


def _open_ours(args: argparse.Namespace, folder: Path) -> Opened:
    import torch

    from locvlm.answering.checkpoints import fingerprint
    from locvlm.answering.locvlm import load_answerer

    answerer = load_answerer(
        folder,
        adapter=args.adapter,
        base=args.base,
        dtype=getattr(torch, args.dtype),
        device=args.device,
        max_batch_tokens=args.max_batch_tokens,
    )
    return Opened(
        answerer=answerer,
        name=str(args.adapter or args.model),
        fingerprint=fingerprint(folder, args.adapter, args.base),
        description=f"{args.model}: {answerer.contract}, conversation {answerer.conversation}",
    )


def _open_foreign(args: argparse.Namespace, folder: Path) -> Opened:
    """A checkpoint of others, by the type that its config.json tells."""
    model_type = read_json(folder / "config.json").get("model_type")
    if args.adapter is not None or args.base is not None:
        raise ValueError(f"--adapter and --base go with a checkpoint of ours, and {args.model} is none")
    import torch

    from locvlm.answering.baselines import KINDS, load_baseline
    from locvlm.answering.checkpoints import fingerprint
    from locvlm.answering.llava import load_llava

    settings: dict[str, Any] = {
        "dtype": getattr(torch, args.dtype),
        "device": args.device,
        "max_batch_tokens": args.max_batch_tokens,
    }
    answerer: Answerer
    if model_type == _LLAVA:
        answerer = load_llava(folder, convention=args.convention, **settings)
    elif model_type in KINDS:
        if args.convention:
            raise ValueError(f"--convention is for servers and LLaVA; {model_type} has its own")
        answerer = load_baseline(str(folder), model_type, **settings)
    else:
        raise ValueError(
            f"{args.model} is of the type {model_type!r}; asked here are checkpoints of ours, and the types "
            f"{', '.join((_LLAVA, *KINDS))}. Start a server with it, such as vLLM, and give its URL as "
            f"--model"
        )
    is_here = folder == Path(args.model)
    return Opened(
        answerer=answerer,
        name=args.model,
        fingerprint=fingerprint(folder) if is_here else f"{args.model}@{folder.name}",
        description=f"{args.model}: {model_type}, {answerer.contract or 'no way of writing locations'}",
    )


def _open_server_model(args: argparse.Namespace) -> Opened:
    from locvlm.answering.conventions import NO_CONVENTION, find_convention
    from locvlm.answering.server import ServerAnswerer

    if args.adapter is not None or args.base is not None:
        raise ValueError(f"--adapter and --base go with a checkpoint of ours, and {args.model} is a server")
    contract, words = find_convention(args.convention or NO_CONVENTION)
    server = open_server(args.model, args)
    return Opened(
        answerer=ServerAnswerer(server=server, contract=contract, words=words),
        name=server.model,
        fingerprint=f"server's {server.model}",
        description=f"{server.model} at {args.model}: {contract or 'no way of writing locations declared'}",
    )


def _find_folder(name: str) -> Path:
    """The folder of this name, or where the files of a name on the hub are, fetched if need be.

    Raises:
        ValueError: if they are not here and cannot be fetched.
    """
    path = Path(name)
    if path.exists() or path.is_absolute() or not _HUB_NAME.fullmatch(name):
        return path  # what is wrong with it, if anything is, says who opens it
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, ignore_patterns=list(_UNUSED)))
        if any(folder.glob("*.safetensors")):
            return folder
        return Path(snapshot_download(name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"there is no folder {name}, and it cannot be fetched from the Hugging Face hub "
            f"({' '.join(str(error).split())[:200]}); where there is no network, give the folder of a copy"
        ) from error
