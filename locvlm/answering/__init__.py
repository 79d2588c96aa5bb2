"""Models that answer questions about images: ours, and others for comparison."""
