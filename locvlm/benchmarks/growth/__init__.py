"""What scripts/benchmark_growth.py is made of: how cost grows with ranks, rows, pairs and records."""
