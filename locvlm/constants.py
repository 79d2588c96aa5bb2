"""Values that several rooms must agree on, each written down once."""

IGNORE_INDEX = -100  # a label that carries no loss (PyTorch's cross-entropy default)
IMAGE_TOKEN = "<image>"  # stands for all image tokens in a prompt, as in llava-hf checkpoints
VIDEO_TOKEN = "<video>"  # what data files write for a video; prompts have IMAGE_TOKEN for it, too
PAD_TOKEN = "<pad>"
PREEMPTED_EXIT_CODE = 85  # of a run that was told to leave and saved: start it again
MAX_SHARD_SIZE = "5GB"  # of one weight file; larger models are written in several
NO_SAMPLE = -1  # `sample_ids` value of a padding position in a packed row
