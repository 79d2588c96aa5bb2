"""Stage 1: an image's captions as verbatim targets, one branch each."""

from locvlm.records import ImageAnnotation, Query, Record


def build_caption_record(image: ImageAnnotation) -> Record | None:
    """One query per caption; None for an image without any."""
    if not image.captions:
        return None
    return Record(
        id=image.image_id,
        image=image.image,
        width=image.width,
        height=image.height,
        queries=tuple(Query(objective="caption", answer=caption) for caption in image.captions),
        source={"image_id": image.image_id},
    )
