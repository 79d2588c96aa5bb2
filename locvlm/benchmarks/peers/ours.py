"""What train/stage2.py does: packed rows, shared prefixes, the loss of supervised tokens alone."""

from locvlm.benchmarks.peers.way import Way
from locvlm.benchmarks.peers.workload import Workload
from locvlm.data.tokenize import load_tokenizer
from locvlm.model.freeze import freeze
from locvlm.training import stages
from locvlm.training.profiling.observe import observe


def build(work: Workload, way: str) -> Way:
    """The calls of train/stage2.py, up to its `stages.train`."""
    cfg = work.stage_config(way)
    args, run = stages.start(cfg)
    tokenizer = load_tokenizer(cfg.model.checkpoint)
    model = stages.open_model(cfg.model, cfg.coords, args, conversation=cfg.data.conversation)
    table = freeze(model, train=stages.choose_parts(model, cfg.lora, seed=args.seed))
    loader = stages.open_steps(cfg.data, cfg.packing, args, model=model, tokenizer=tokenizer)
    trainer = stages.make_trainer(
        model,
        args,
        loader=loader,
        weights=stages.choose_weights(cfg, tokenizer),
        run=run,
        optimizer=cfg.optimizer,
        faults=cfg.faults,
    )
    observe(trainer, cfg.profile, run=run.path)
    stages.describe_start(run, loader, table, tokenizer)
    return Way(trainer=trainer, train=lambda: stages.train(trainer, run))
