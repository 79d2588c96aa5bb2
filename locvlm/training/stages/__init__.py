"""What the programs of train/ are put together from: start, model (in stage 3 also video), data, run."""
