"""What judged answers are worth: one file per kind of question. `locvlm/evals/metrics.py` names them all."""
