"""Turns -> the text of a conversation, with the spans that are supervised and the place where branches part.

    vicuna_v1   {system} USER: <image>\\n{question} ASSISTANT: {answer}</s>USER: {question} ASSISTANT: ...
    vicuna_bare the same without the system sentence: what llava-hf checkpoints are asked in
    llama2      [INST] <<SYS>>\\n{system}\\n<</SYS>>\\n\\n<image>\\n{question} [/INST] {answer} </s><s>...
    plain       <image>{caption}\\n                       (stage 1: no system sentence, no question)

vicuna_v1 and llama2 are LLaVA's formats of these names, to the letter. The BOS token is the tokenizer's
business and in no text here. A text holds one `<image>` placeholder, which `data/tokenize.py` (or a
processor) expands.

What is supervised starts exactly where the generation prompt ends: `render_question(...)` is a prefix of
`render_branch(...).text`, and the rest of the first answer is its first supervised span. So a model is asked
for just what it was trained to give.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from locvlm.constants import IMAGE_TOKEN, VIDEO_TOKEN
from locvlm.records import Turn

BOS_TOKEN = "<s>"
EOS_TOKEN = "</s>"

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
LLAMA2_SYSTEM = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationFormat:
    """The fixed strings between the parts of a conversation, in order of appearance."""

    name: str
    first: str  # before the first question
    later: str  # before every other question
    image: str  # the image placeholder, right before the first question
    ask: str  # after a question; the generation prompt ends here
    answer: str  # before an answer, supervised
    end: str  # after an answer, supervised
    has_questions: bool = True


FORMATS = {
    "vicuna_v1": ConversationFormat(
        name="vicuna_v1",
        first=f"{VICUNA_SYSTEM} USER: ",
        later="USER: ",
        image=f"{IMAGE_TOKEN}\n",
        ask=" ASSISTANT:",
        answer=" ",
        end=EOS_TOKEN,
    ),
    "vicuna_bare": ConversationFormat(
        name="vicuna_bare",
        first="USER: ",
        later="USER: ",
        image=f"{IMAGE_TOKEN}\n",
        ask=" ASSISTANT:",
        answer=" ",
        end=EOS_TOKEN,
    ),
    "llama2": ConversationFormat(
        name="llama2",
        first=f"[INST] <<SYS>>\n{LLAMA2_SYSTEM}\n<</SYS>>\n\n",
        later=f"{BOS_TOKEN}[INST] ",
        image=f"{IMAGE_TOKEN}\n",
        ask=" [/INST]",
        answer=" ",
        end=f" {EOS_TOKEN}",
    ),
    "plain": ConversationFormat(
        name="plain", first="", later="", image=IMAGE_TOKEN, ask="", answer="", end="\n", has_questions=False
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptText:
    """A branch as text. All offsets are characters of `text`."""

    text: str
    supervised: tuple[tuple[int, int], ...]  # one [start, end) per answer, its end token included
    prefix_end: (
        int  # just after the image placeholder, up to which all branches are the same; 0 without image
    )


def render_branch(turns: Sequence[Turn], conversation: str, has_image: bool) -> PromptText:
    """The text of one dialogue.

    `plain` writes the answer of its single turn and leaves the question out.

    Raises:
        ValueError: for an unknown format, no turns, an empty answer, an image placeholder inside a turn, or
            several turns in `plain`.
    """
    fmt = get_format(conversation)
    _check_turns(turns, fmt)
    text, prefix_end = _open(fmt, has_image)
    supervised = []
    for index, turn in enumerate(turns):
        if fmt.has_questions:
            text += (fmt.later if index else "") + turn.question + fmt.ask
        start = len(text)
        text += fmt.answer + turn.answer + fmt.end
        supervised.append((start, len(text)))
    return PromptText(text=text, supervised=tuple(supervised), prefix_end=prefix_end)


def render_question(question: str, conversation: str, has_image: bool) -> str:
    """The generation prompt: what stands before the first answer in `render_branch` of the same question."""
    fmt = get_format(conversation)
    if IMAGE_TOKEN in question:
        raise ValueError(
            f"a question must not hold {IMAGE_TOKEN!r}, it is added by the format; got {question!r}"
        )
    text, _ = _open(fmt, has_image)
    return text + question + fmt.ask if fmt.has_questions else text


def chat_template(conversation: str, *, takes_videos: bool = False) -> str:
    """The format as a Jinja chat template, which gives the very text of `render_branch` / `render_question`.

    Messages are `{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ...}]}` and so on;
    a plain string is read as text. Images come first in their turn, wherever the message lists them. A first
    message of role "system" replaces the system sentence. The BOS token is left to the tokenizer, as in
    llava-hf checkpoints.

    Args:
        takes_videos: a part of type "video" becomes the placeholder `VIDEO_TOKEN`; else it is not seen.
    """
    templates = {
        "vicuna_v1": _VICUNA_TEMPLATE,
        "vicuna_bare": _BARE_TEMPLATE,
        "llama2": _LLAMA2_TEMPLATE,
        "plain": _PLAIN_TEMPLATE,
    }
    template = templates[get_format(conversation).name]
    return template.replace(_IMAGE_PARTS, _VISUAL_PARTS) if takes_videos else template


def get_format(conversation: str) -> ConversationFormat:
    """The format of this name.

    Raises:
        ValueError: naming the choices.
    """
    if conversation not in FORMATS:
        raise ValueError(f"unknown conversation format {conversation!r}; choose from {', '.join(FORMATS)}")
    return FORMATS[conversation]


def _open(fmt: ConversationFormat, has_image: bool) -> tuple[str, int]:
    """What stands before the first question, and the offset just after the image placeholder."""
    if not has_image:
        return fmt.first, 0
    text = fmt.first + fmt.image
    return text, text.index(IMAGE_TOKEN) + len(IMAGE_TOKEN)


def _check_turns(turns: Sequence[Turn], fmt: ConversationFormat) -> None:
    if not turns:
        raise ValueError("a branch needs at least one turn, got none")
    if not fmt.has_questions and len(turns) != 1:
        raise ValueError(f"the {fmt.name!r} format holds one caption per branch, got {len(turns)} turns")
    for turn in turns:
        if IMAGE_TOKEN in turn.question or IMAGE_TOKEN in turn.answer:
            raise ValueError(f"a turn must not hold {IMAGE_TOKEN!r}, it is added by the format; got {turn}")
        if not turn.answer:
            raise ValueError(f"a turn needs an answer to learn from, got {turn}")


_IMAGE_PARTS = (
    "{%- for part in message['content'] if part['type'] == 'image' -%}{{ placeholder }}{%- endfor -%}"
)
_VISUAL_PARTS = (
    "{%- for part in message['content'] if part['type'] == 'image' or part['type'] == 'video' -%}"
    f"{{{{ placeholder if part['type'] == 'image' else placeholder.replace('{IMAGE_TOKEN}', '{VIDEO_TOKEN}')"
    " }}{%- endfor -%}"
)
# `text(message)` joins a message's text parts; `images(message)` writes one placeholder per image part.
_MACROS = (
    "{%- macro text(message) -%}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}"
    "{%- endif -%}"
    "{%- endmacro -%}"
    "{%- macro images(message, placeholder) -%}"
    "{%- if message['content'] is not string -%}"
    f"{_IMAGE_PARTS}"
    "{%- endif -%}"
    "{%- endmacro -%}"
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{%- set system = text(messages[0]) -%}{%- set turns = messages[1:] -%}"
    "{%- else -%}"
    "{%- set system = DEFAULT_SYSTEM -%}{%- set turns = messages -%}"
    "{%- endif -%}"
)


def _with_macros(system: str, body: str) -> str:
    return _MACROS.replace("DEFAULT_SYSTEM", '"' + system + '"') + body


_VICUNA_TURNS = (
    "{%- for message in turns -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- 'USER: ' + images(message, '<image>\\n') + text(message) + ' ' -}}"
    "{%- else -%}"
    "{{- 'ASSISTANT: ' + text(message) + '</s>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"
)
_VICUNA_TEMPLATE = _with_macros(VICUNA_SYSTEM, "{{- system + ' ' -}}" + _VICUNA_TURNS)
_BARE_TEMPLATE = _with_macros("", "{%- if system -%}{{- system + ' ' -}}{%- endif -%}" + _VICUNA_TURNS)
_LLAMA2_TEMPLATE = _with_macros(
    LLAMA2_SYSTEM,
    "{%- for message in turns -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- '[INST] <<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if loop.first else '<s>[INST] ' -}}"
    "{{- images(message, '<image>\\n') + text(message) + ' [/INST]' -}}"
    "{%- else -%}"
    "{{- ' ' + text(message) + ' </s>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}",
)
_PLAIN_TEMPLATE = _with_macros(
    "",
    "{%- for message in turns -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- images(message, '<image>') -}}"
    "{%- else -%}"
    "{{- text(message) + '\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}",
)
