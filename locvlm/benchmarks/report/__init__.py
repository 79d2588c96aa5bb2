"""What scripts/plot_benchmarks.py is made of: kept results become tables in documents, and a plot."""
