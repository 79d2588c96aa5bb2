"""What is made of scored answers: the paper's tables, intervals, comparisons, the demo's report."""
