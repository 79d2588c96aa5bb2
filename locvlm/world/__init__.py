"""The embedded world: procedural scenes written as COCO files, and small backbones trained on them."""
