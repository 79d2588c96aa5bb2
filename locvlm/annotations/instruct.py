"""LLaVA JSON (`[{"id", "image", "conversations": [{"from", "value"}, ...]}]`) -> Samples, as they are.

About videos, Video-ChatGPT's two forms: the same with "video" and the placeholder `<video>` (or `<image>`),
and the rows of its VideoInstruct100K, `{"q", "a", "video_id"}`, which are one question each. The video may be
named without extension, or as the features that the first form was made for ("v_x.pkl"): whoever opens it
looks for the file.

As in LLaVA's own training code, the image comes before everything else: `<image>` may stand anywhere in
the first human turn ("question\\n<image>" too), is taken out with the white space around what remains,
and the conversation format puts it in front. All other text is verbatim. A leading turn of the model is
skipped. Entries without "image" and "video" are text only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from locvlm.constants import IMAGE_TOKEN, VIDEO_TOKEN
from locvlm.io import read_entries
from locvlm.records import Sample, Turn

Layout = Literal["multi_turn", "separate"]


def read_llava(path: str | Path) -> Iterator[Sample]:
    """The samples of a LLaVA JSON file (one array, or JSON Lines), each with one branch.

    Raises:
        ValueError: naming the file and the index (or line) of an entry that cannot be read.
    """
    for where, entry in read_llava_entries(path):
        yield sample_from_llava(entry, where=where)


def read_llava_entries(path: str | Path) -> Iterator[tuple[str, Any]]:
    """(where, entry) of a file that is one JSON array, or JSON Lines if its name ends in .jsonl."""
    yield from read_entries(path, expected="LLaVA JSON, an array of conversations")


def sample_from_llava(entry: Any, *, where: str) -> Sample:
    """One entry as a sample with one branch of all its turns; `where` opens every message.

    Raises:
        ValueError: for an entry of another form, several images or videos, one that is not in the first human
            turn, a placeholder without image or the other way round, and turns that do not alternate.
    """
    if isinstance(entry, dict) and "conversations" not in entry and "video_id" in entry:
        return _sample_from_row(entry, where)
    if not isinstance(entry, dict) or not isinstance(entry.get("conversations"), list):
        raise ValueError(f'{where}: expected an object with a list of "conversations", got {_shown(entry)}')
    image, video = _shown_by(entry, "image", where), _shown_by(entry, "video", where)
    if image is not None and video is not None:
        raise ValueError(f"{where}: image {image!r} and video {video!r} in one conversation: expected one")
    turns = _turns_of(entry["conversations"], where)
    placeholders = [text.count(IMAGE_TOKEN) for turn in turns for text in (turn.question, turn.answer)]
    if video is not None:
        placeholders[0] += turns[0].question.count(VIDEO_TOKEN)  # elsewhere it is text, as an HTML tag is
    is_shown = image is not None or video is not None
    if not is_shown and any(placeholders):
        raise ValueError(f'{where}: the conversation holds {IMAGE_TOKEN} but the entry has no "image"')
    if sum(placeholders) > 1:
        raise ValueError(f"{where}: {sum(placeholders)} images in one conversation are not supported yet")
    if is_shown:
        kind, token = ("image", IMAGE_TOKEN) if video is None else ("video", VIDEO_TOKEN)
        if placeholders[0] != 1:
            raise ValueError(
                f"{where}: the entry has {'an' if video is None else 'a'} {kind}, so its first human turn "
                f"must hold {token}, got {turns[0].question!r}"
            )
        question = turns[0].question.replace(IMAGE_TOKEN, "")
        question = question if video is None else question.replace(VIDEO_TOKEN, "")
        turns[0] = Turn(question=question.strip(), answer=turns[0].answer)
    return Sample(id=str(entry.get("id", where)), image=image, video=video, branches=(tuple(turns),))


def sample_to_llava(sample: Sample, *, layout: Layout) -> list[dict[str, Any]]:
    """The sample as LLaVA JSON entries: one conversation with all branches in turn, or an entry each.

    In one conversation later questions see earlier answers, which LocVLM's own training keeps apart.
    """
    if layout == "multi_turn":
        dialogues = [tuple(turn for branch in sample.branches for turn in branch)] if sample.branches else []
    else:
        dialogues = list(sample.branches)
    shown = {"image": sample.image, "video": sample.video}
    image = {key: path for key, path in shown.items() if path is not None}
    token = IMAGE_TOKEN if sample.video is None else VIDEO_TOKEN
    entries = []
    for number, turns in enumerate(dialogues):
        messages = []
        for index, turn in enumerate(turns):
            question = turn.question
            if image and index == 0:
                question = f"{token}\n{question}" if question else token
            messages.append({"from": "human", "value": question})
            messages.append({"from": "gpt", "value": turn.answer})
        entry_id = sample.id if layout == "multi_turn" else f"{sample.id}-{number}"
        entries.append({"id": entry_id, **image, "conversations": messages})
    return entries


def _shown_by(entry: dict[str, Any], kind: str, where: str) -> str | None:
    """The path under "image" or "video", None if there is none."""
    path = entry.get(kind)
    if isinstance(path, list):
        if len(path) != 1:
            raise ValueError(f"{where}: {len(path)} {kind}s in one conversation are not supported yet")
        path = path[0]
    if path is not None and (not isinstance(path, str) or not path):
        raise ValueError(f'{where}: "{kind}" must be a path, got {path!r}')
    return path


def _sample_from_row(row: dict[str, Any], where: str) -> Sample:
    """One row of VideoInstruct100K. Its id is the video's, which other rows have, too."""
    texts = [row.get(name) for name in ("q", "a", "video_id")]
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f'{where}: expected "q", "a" and "video_id" as text, got {_shown(row)}')
    question, answer, video = (str(text) for text in texts)
    turn = Turn(question=question.replace(VIDEO_TOKEN, "").strip(), answer=answer)
    return Sample(id=video, image=None, video=video, branches=((turn,),))


def _turns_of(messages: list[Any], where: str) -> list[Turn]:
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not all(
            isinstance(message.get(name), str) for name in ("from", "value")
        ):
            raise ValueError(
                f'{where}: message {number} must have "from" and "value" as text, got {_shown(message)}'
            )
    if messages and messages[0]["from"] == "gpt":
        messages = messages[1:]
    roles = [message["from"] for message in messages]
    if not roles or roles != ["human", "gpt"] * (len(roles) // 2):
        raise ValueError(f"{where}: turns must alternate between human and gpt and end with gpt, got {roles}")
    values = [message["value"] for message in messages]
    if "" in values[1::2]:
        raise ValueError(f"{where}: an answer is empty, so there is nothing to learn from it")
    return [Turn(question=q, answer=a) for q, a in zip(values[::2], values[1::2], strict=True)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
