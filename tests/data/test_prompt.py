import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from locvlm.data.prompt import FORMATS, chat_template, render_branch, render_question
from locvlm.records import Turn

DOG = Turn(question="Where is the dog?", answer="It is located at (4, 52, 13, 63)")
CAT = Turn(question="And the cat?", answer="There is no such object in the image")
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
LLAMA2_OPEN = (
    "[INST] <<SYS>>\nYou are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural language."
    "\n<</SYS>>\n\n"
)


def test_vicuna_text_is_llavas_to_the_letter():
    prompt = render_branch([DOG, CAT], "vicuna_v1", has_image=True)
    assert prompt.text == (
        f"{SYSTEM} USER: <image>\nWhere is the dog? ASSISTANT: It is located at (4, 52, 13, 63)</s>"
        "USER: And the cat? ASSISTANT: There is no such object in the image</s>"
    )


def test_bare_vicuna_is_what_published_llava_checkpoints_are_asked_in():
    assert render_question("What is it?", "vicuna_bare", True) == "USER: <image>\nWhat is it? ASSISTANT:"
    with_system = apply_template(
        [{"role": "system", "content": SYSTEM}, *messages_of([DOG], True)], "vicuna_bare"
    )
    assert with_system == render_branch([DOG], "vicuna_v1", True).text


def test_llama2_text_is_llavas_to_the_letter():
    prompt = render_branch([DOG, CAT], "llama2", has_image=True)
    assert prompt.text == (
        f"{LLAMA2_OPEN}<image>\nWhere is the dog? [/INST] It is located at (4, 52, 13, 63) </s>"
        "<s>[INST] And the cat? [/INST] There is no such object in the image </s>"
    )


def test_plain_is_image_and_caption_without_question():
    prompt = render_branch([Turn(question="ignored", answer="a dog")], "plain", has_image=True)
    assert prompt.text == "<image>a dog\n"


@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        ("vicuna_v1", [f" {DOG.answer}</s>", f" {CAT.answer}</s>"]),
        ("llama2", [f" {DOG.answer} </s>", f" {CAT.answer} </s>"]),
    ],
)
def test_supervised_spans_are_the_answers_with_their_end(conversation, expected):
    prompt = render_branch([DOG, CAT], conversation, has_image=True)
    assert [prompt.text[start:end] for start, end in prompt.supervised] == expected


@pytest.mark.parametrize("has_image", [True, False])
@pytest.mark.parametrize("conversation", FORMATS)
def test_the_generation_prompt_is_what_stands_before_the_first_answer(conversation, has_image):
    prompt = render_branch([DOG], conversation, has_image)
    assert render_question(DOG.question, conversation, has_image) == prompt.text[: prompt.supervised[0][0]]


@pytest.mark.parametrize("conversation", FORMATS)
def test_the_prefix_ends_right_after_the_image(conversation):
    prompt = render_branch([DOG], conversation, has_image=True)
    assert prompt.text[: prompt.prefix_end].endswith("<image>")
    assert prompt.text.count("<image>") == 1
    without = render_branch([DOG], conversation, has_image=False)
    assert without.prefix_end == 0
    assert "<image>" not in without.text


def messages_of(turns, has_image):
    messages = []
    for index, turn in enumerate(turns):
        # text before image: the template has to bring the image to the front
        content = [{"type": "text", "text": turn.question}] + [{"type": "image"}] * (has_image and index == 0)
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return messages


def apply_template(messages, conversation, **options):
    rendered, _ = render_jinja_template(
        [messages], chat_template=chat_template(conversation), bos_token="<s>", eos_token="</s>", **options
    )
    return rendered[0]


@pytest.mark.parametrize("has_image", [True, False])
@pytest.mark.parametrize(
    ("conversation", "turns"),
    [
        ("vicuna_v1", [DOG]),
        ("vicuna_v1", [DOG, CAT, DOG]),
        ("vicuna_bare", [DOG]),
        ("vicuna_bare", [DOG, CAT, DOG]),
        ("llama2", [DOG]),
        ("llama2", [DOG, CAT, DOG]),
        ("plain", [DOG]),
    ],
)
def test_the_chat_template_gives_the_very_same_text(conversation, turns, has_image):
    messages = messages_of(turns, has_image)
    text = render_branch(turns, conversation, has_image).text
    assert apply_template(messages, conversation) == text
    asked = render_question(turns[0].question, conversation, has_image)
    assert apply_template(messages[:1], conversation, add_generation_prompt=True) == asked


def test_the_chat_template_reads_plain_string_contents_and_another_system_sentence():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    text = apply_template(messages, "vicuna_v1", add_generation_prompt=True)
    assert text == "Be brief. USER: Hello ASSISTANT:"
    assert "<<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST]" in apply_template(messages, "llama2")


def test_texts_with_whitespace_and_braces_survive_the_template():
    turn = Turn(question="  {{ braces }} {% x %}\n", answer=" \n two\n ")
    messages = messages_of([turn], has_image=True)
    assert apply_template(messages, "vicuna_v1") == render_branch([turn], "vicuna_v1", has_image=True).text


@pytest.mark.parametrize(
    ("turns", "conversation", "message"),
    [
        (
            [DOG],
            "vicuna",
            "unknown conversation format 'vicuna'; choose from vicuna_v1, vicuna_bare, llama2, plain",
        ),
        ([], "vicuna_v1", "at least one turn"),
        ([Turn(question="a <image>", answer="b")], "vicuna_v1", "must not hold '<image>'"),
        ([Turn(question="a", answer="")], "vicuna_v1", "needs an answer"),
        ([DOG, CAT], "plain", "one caption per branch, got 2"),
    ],
)
def test_what_cannot_be_rendered_is_refused(turns, conversation, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        render_branch(turns, conversation, has_image=True)
