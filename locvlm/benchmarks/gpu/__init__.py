"""What scripts/benchmark_gpu.py is made of: real steps of models with random weights, timed on one device."""
