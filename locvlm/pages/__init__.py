"""HTML pages: their shell, photographs with boxes, and photographs in every frame."""
