"""Stage 3: videos. The adapter alone learns from 100 frames (LocVLM-Vid-B), or adapter and language model
from 8, with LocPred, NegPred and RevLoc over frames (Vid-B+); image data may be mixed in (paper section 3.1).

    python train/stage3.py --config train/configs/demo_stage3.yaml --training.output_dir runs/mine
    deepspeed train/stage3.py --config train/configs/locvlm_vid_b_plus.yaml --data.video_cache data/features

With --evaluation.every_steps some questions about videos or images are asked during training.

Starts from stage 2's RUN/final or any image checkpoint, and leaves RUN/final, a Hugging Face folder that also
knows how it sees videos; with LoRA its matrices. The same command again goes on where an interrupted run
stopped. scripts/cache_video_features.py makes the features of all videos ahead.
"""

from pathlib import Path

from locvlm.config import load_config
from locvlm.training.arguments import Stage3Config

TASKS = Path(__file__).resolve().parents[1] / "eval" / "tasks"


def main() -> None:
    """Train on videos."""
    cfg = load_config(Stage3Config)

    # after the configuration, so that --help and a typo answer before torch is loaded
    from locvlm.data.tokenize import load_tokenizer
    from locvlm.evals.small_evaluation import SmallEvaluation
    from locvlm.model.adapter import load_adapter
    from locvlm.model.freeze import freeze
    from locvlm.training.profiling.observe import observe
    from locvlm.training.stages.data import open_steps
    from locvlm.training.stages.model import (
        choose_final_weights,
        choose_parts,
        choose_weights,
        open_model,
    )
    from locvlm.training.stages.run import describe_start, finish, make_evaluation, make_trainer, train
    from locvlm.training.stages.start import is_finished, start
    from locvlm.training.stages.video import open_features, settle_video

    args, run = start(cfg)  # joins the ranks; refuses a folder that holds another run
    if is_finished(run, args):
        return

    tokenizer = load_tokenizer(cfg.model.checkpoint)
    model = open_model(cfg.model, cfg.coords, args, conversation=cfg.data.conversation)
    settle_video(model, cfg.video, checkpoint_name=cfg.model.checkpoint)
    if cfg.model.adapter is not None:
        load_adapter(model, cfg.model.adapter)  # refuses one made for another frame or other sizes
    table = freeze(model, train=choose_parts(cfg, model, seed=args.seed))

    loader = open_steps(
        cfg.data,
        cfg.packing,
        args,
        model=model,
        tokenizer=tokenizer,
        takes_videos=True,
        features=open_features(cfg, model, args),
    )
    whole = choose_final_weights(cfg, tokenizer)  # also where checkpoints hold the adapter alone
    evaluation = make_evaluation(
        cfg.evaluation, SmallEvaluation.of_tasks, TASKS, tokenizer=tokenizer, run=run, weights=whole
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
    finish(trainer, run, loader, weights=whole)


if __name__ == "__main__":
    main()
