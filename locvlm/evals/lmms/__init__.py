"""The questions of a task put through lmms-eval, and its answers beside ours."""
