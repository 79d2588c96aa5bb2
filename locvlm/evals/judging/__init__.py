"""A language model judges free answers: rubric, verdicts on disk, cost, asking."""
