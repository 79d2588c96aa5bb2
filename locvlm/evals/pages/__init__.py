"""The HTML pages: a run's report, and photographs with their boxes in every frame."""
