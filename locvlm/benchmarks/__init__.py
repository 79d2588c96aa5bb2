"""What scripts/benchmark_*.py share: ways timed in turns, the machine, the file of results."""
