"""What scripts/benchmark_peers.py is made of: one training on our way, and as others do it."""
