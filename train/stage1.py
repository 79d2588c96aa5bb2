"""Stage 1: the adapter learns from captions; tower and language model stay as they are (paper section 4.1).

    python train/stage1.py --config train/configs/demo_stage1.yaml
    torchrun --nproc_per_node 8 train/stage1.py --config train/configs/locvlm_b_stage1.yaml
    deepspeed train/stage1.py --config train/configs/locvlm_b_stage1.yaml

Leaves RUN/final: adapter.safetensors and adapter_config.json, which stage 2 takes as `model.adapter`. The
same command again goes on where an interrupted run stopped.
"""

from locvlm.config import load_config
from locvlm.training.arguments import Stage1Config


def main() -> None:
    """Train the adapter."""
    cfg = load_config(Stage1Config)

    # after the configuration, so that --help and a typo answer before torch is loaded
    from locvlm.data.tokenize import load_tokenizer
    from locvlm.model.freeze import freeze
    from locvlm.training.checkpoint import AdapterWeights
    from locvlm.training.profiling.observe import observe
    from locvlm.training.stages.data import open_steps
    from locvlm.training.stages.model import open_model
    from locvlm.training.stages.run import describe_start, finish, make_trainer, train
    from locvlm.training.stages.start import is_finished, start

    args, run = start(cfg)  # joins the ranks; refuses a folder that holds another run
    if is_finished(run, args):
        return

    tokenizer = load_tokenizer(cfg.model.checkpoint)
    model = open_model(cfg.model, cfg.coords, args)
    table = freeze(model, train=("adapter",))

    loader = open_steps(cfg.data, cfg.packing, args, model=model, tokenizer=tokenizer)
    trainer = make_trainer(
        model,
        args,
        loader=loader,
        weights=AdapterWeights(),
        run=run,
        optimizer=cfg.optimizer,
        faults=cfg.faults,
    )
    observe(trainer, cfg.profile, run=run.path)  # MFU; with --profile.steps 3 also RUN/profile
    describe_start(run, loader, table, tokenizer)
    train(trainer, run)
    finish(trainer, run, loader)


if __name__ == "__main__":
    main()
