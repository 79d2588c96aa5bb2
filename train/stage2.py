"""Stage 2: adapter and language model learn LocPred, NegPred and RevLoc, mixed with any LLaVA conversations
(paper sections 3.3 and 4.1).

    python train/stage2.py --config train/configs/demo_stage2.yaml --training.output_dir runs/mine
    deepspeed train/stage2.py --config train/configs/locvlm_b_stage2.yaml --training.learning_rate 1e-5

Leaves RUN/final: a Hugging Face folder with tokenizer and processor, for eval/run.py and
scripts/export_hf.py; with LoRA (--lora.rank 128) its matrices, which scripts/merge_lora.py makes such a
folder of. The same command again goes on where an interrupted run stopped.
"""

from pathlib import Path

from locvlm.config import load_config
from locvlm.training.arguments import Stage2Config

TASKS = Path(__file__).resolve().parents[1] / "eval" / "tasks"


def main() -> None:
    """Fine-tune adapter and language model."""
    cfg = load_config(Stage2Config)

    # after the configuration, so that --help and a typo answer before torch is loaded
    from locvlm.data.tokenize import load_tokenizer
    from locvlm.evals.small_evaluation import SmallEvaluation
    from locvlm.model.adapter import load_adapter
    from locvlm.model.freeze import freeze
    from locvlm.training.profiling.observe import observe
    from locvlm.training.stages.data import open_steps
    from locvlm.training.stages.model import choose_parts, choose_weights, open_model
    from locvlm.training.stages.run import describe_start, finish, make_evaluation, make_trainer, train
    from locvlm.training.stages.start import is_finished, start

    args, run = start(cfg)  # joins the ranks; refuses a folder that holds another run
    if is_finished(run, args):
        return

    tokenizer = load_tokenizer(cfg.model.checkpoint)
    model = open_model(cfg.model, cfg.coords, args, conversation=cfg.data.conversation)
    if cfg.model.adapter is not None:
        load_adapter(model, cfg.model.adapter)  # refuses one made for another frame or other sizes
    table = freeze(model, train=choose_parts(cfg, model, seed=args.seed))

    loader = open_steps(cfg.data, cfg.packing, args, model=model, tokenizer=tokenizer)
    evaluation = make_evaluation(
        cfg.evaluation, SmallEvaluation.of_tasks, TASKS, tokenizer=tokenizer, run=run
    )
    trainer = make_trainer(
        model,
        args,
        loader=loader,
        weights=choose_weights(cfg, tokenizer),
        run=run,
        evaluation=evaluation,
        optimizer=cfg.optimizer,
        faults=cfg.faults,
    )
    observe(trainer, cfg.profile, run=run.path)  # MFU; with --profile.steps 3 also RUN/profile
    describe_start(run, loader, table, tokenizer)
    train(trainer, run)
    finish(trainer, run, loader)


if __name__ == "__main__":
    main()
