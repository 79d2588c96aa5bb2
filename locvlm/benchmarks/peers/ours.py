"""What train/stage2.py does: packed rows, shared prefixes, the loss of supervised tokens alone."""

from locvlm.benchmarks.peers.way import Way
from locvlm.benchmarks.peers.workload import Workload
from locvlm.data.tokenize import load_tokenizer
from locvlm.model.freeze import freeze
from locvlm.training.profiling.observe import observe
from locvlm.training.stages.data import open_steps
from locvlm.training.stages.model import choose_parts, choose_weights, open_model
from locvlm.training.stages.run import describe_start, make_trainer, train
from locvlm.training.stages.start import start


def build(work: Workload, way: str) -> Way:
    """The calls of train/stage2.py, up to its `train`."""
    cfg = work.stage_config(way)
    args, run = start(cfg)
    tokenizer = load_tokenizer(cfg.model.checkpoint)
    model = open_model(cfg.model, cfg.coords, args, conversation=cfg.data.conversation)
    table = freeze(model, train=choose_parts(cfg, model, seed=args.seed))
    loader = open_steps(cfg.data, cfg.packing, args, model=model, tokenizer=tokenizer)
    trainer = make_trainer(
        model,
        args,
        loader=loader,
        weights=choose_weights(cfg, tokenizer),
        run=run,
        optimizer=cfg.optimizer,
        faults=cfg.faults,
    )
    observe(trainer, cfg.profile, run=run.path)
    describe_start(run, loader, table, tokenizer)
    return Way(trainer=trainer, train=lambda: train(trainer, run))
