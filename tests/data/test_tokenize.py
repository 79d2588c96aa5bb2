import json

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaProcessor

from locvlm.data.prompt import FORMATS, chat_template, render_branch, render_question
from locvlm.data.tokenize import (
    load_tokenizer,
    text_spec,
    tokenize_prompts,
    tokenize_sample,
    tokenize_samples,
)
from locvlm.records import Sample, Turn

CANVAS, PATCH = 28, 14
NUM_IMAGE_TOKENS = (CANVAS // PATCH) ** 2
DOG = Turn(
    question="Where is the object described dog located in image in terms of (x1,y1,x2,y2) bbox?",
    answer="It is located at (4, 52, 13, 63)",
)
CAT = Turn(
    question="Provide a (cx,cy) point for the the object described cat?",
    answer="There is no such object in the image",
)
ODD = Turn(question="\nWhich  字 is it, 日 or 🙂?  ", answer=" é—🙂\n\n 12.34  ")
CASES = [(DOG,), (CAT,), (ODD,), (DOG, CAT, ODD)]


def make_sample(*branches, image="dog.jpg"):
    return Sample(id="one", image=image, branches=branches)


def full_ids(sample, index=0):
    return sample.prefix_ids + sample.branches[index].ids


def make_processor(tokenizer, conversation="vicuna_v1"):
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": CANVAS}, crop_size={"height": CANVAS, "width": CANVAS}
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template(conversation),
    )


def processor_ids(tokenizer, text, has_image):
    pixels = Image.fromarray(np.zeros((40, 50, 3), np.uint8)) if has_image else None
    return list(make_processor(tokenizer)(text=text, images=pixels)["input_ids"][0])


@pytest.mark.parametrize("has_image", [True, False])
@pytest.mark.parametrize("conversation", FORMATS)
@pytest.mark.parametrize("turns", CASES)
def test_ids_are_those_of_the_processor(tokenizer, conversation, turns, has_image):
    turns = turns[:1] if conversation == "plain" else turns
    got = tokenize_sample(
        make_sample(turns, image="dog.jpg" if has_image else None), tokenizer, conversation, NUM_IMAGE_TOKENS
    )
    text = render_branch(turns, conversation, has_image).text
    assert full_ids(got) == processor_ids(tokenizer, text, has_image)


@pytest.mark.parametrize("turns", [(DOG,), (DOG, CAT)])
@pytest.mark.parametrize("conversation", ["vicuna_v1", "vicuna_bare", "llama2"])
def test_ids_are_those_of_the_processors_chat_template(tokenizer, conversation, turns):
    messages = []
    for index, turn in enumerate(turns):
        image = [{"type": "image", "image": Image.fromarray(np.zeros((40, 50, 3), np.uint8))}] * (index == 0)
        messages.append({"role": "user", "content": [*image, {"type": "text", "text": turn.question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    processor = make_processor(tokenizer, conversation)
    encoded = processor.apply_chat_template(messages, tokenize=True, return_dict=True)
    assert list(encoded["input_ids"][0]) == full_ids(
        tokenize_sample(make_sample(turns), tokenizer, conversation, NUM_IMAGE_TOKENS)
    )


@pytest.mark.parametrize(
    ("conversation", "expected"),
    [
        ("vicuna_v1", "It is located at (4, 52, 13, 63)</s>There is no such object in the image</s>"),
        ("llama2", "It is located at (4, 52, 13, 63) </s>There is no such object in the image </s>"),
    ],
)
def test_only_answers_and_their_end_token_are_supervised(tokenizer, conversation, expected):
    branch = tokenize_sample(make_sample((DOG, CAT)), tokenizer, conversation, NUM_IMAGE_TOKENS).branches[0]
    supervised = [i for i, flag in zip(branch.ids, branch.supervised, strict=True) if flag]
    pieces = "".join(
        tokenizer.decode([i]) if i == tokenizer.eos_token_id else tokenizer.convert_ids_to_tokens(i)
        for i in supervised
    )
    # each answer's first token carries the space after "ASSISTANT:", which sentencepiece writes as "▁"
    assert pieces.replace("▁", " ") == " " + expected.replace("</s>There", "</s> There")
    assert tokenizer.decode(supervised).replace("</s> There", "</s>There").strip() == expected


def test_only_the_caption_and_its_newline_are_supervised_in_plain(tokenizer):
    caption = Turn(question="", answer="A photo of two dogs")
    sample = tokenize_sample(make_sample((caption,)), tokenizer, "plain", NUM_IMAGE_TOKENS)
    branch = sample.branches[0]
    assert all(branch.supervised)
    assert tokenizer.decode(branch.ids) == "A photo of two dogs\n"
    assert len(sample.prefix_ids) == 1 + NUM_IMAGE_TOKENS
    assert tokenizer.eos_token_id not in branch.ids


def test_a_text_only_caption_supervises_all_but_bos(tokenizer):
    sample = tokenize_sample(make_sample((CAT,), image=None), tokenizer, "plain", NUM_IMAGE_TOKENS)
    assert sample.prefix_ids == [tokenizer.bos_token_id]
    assert all(sample.branches[0].supervised)


@pytest.mark.parametrize("turns", CASES)
@pytest.mark.parametrize("conversation", ["vicuna_v1", "llama2"])
def test_the_generation_prompts_ids_are_the_training_ids_up_to_the_answer(tokenizer, conversation, turns):
    sample = tokenize_sample(make_sample(turns), tokenizer, conversation, NUM_IMAGE_TOKENS)
    branch = sample.branches[0]
    text = render_question(turns[0].question, conversation, has_image=True)
    asked = tokenize_prompts([text], tokenizer, NUM_IMAGE_TOKENS)[0]
    assert asked == sample.prefix_ids + branch.ids[: branch.supervised.index(True)]


def test_the_prefix_ends_with_the_image_and_is_shared_by_all_branches(tokenizer):
    sample = tokenize_sample(make_sample((DOG,), (CAT,), (ODD,)), tokenizer, "vicuna_v1", NUM_IMAGE_TOKENS)
    image_id = text_spec(tokenizer, max_position=2048).image_token_id
    assert sample.num_images == 1
    assert sample.prefix_ids[0] == tokenizer.bos_token_id
    assert sample.prefix_ids[-NUM_IMAGE_TOKENS:] == [image_id] * NUM_IMAGE_TOKENS
    assert sample.prefix_ids.count(image_id) == NUM_IMAGE_TOKENS
    for index, turn in enumerate((DOG, CAT, ODD)):
        alone = tokenize_sample(make_sample((turn,)), tokenizer, "vicuna_v1", NUM_IMAGE_TOKENS)
        assert full_ids(sample, index) == full_ids(alone)
        assert image_id not in sample.branches[index].ids


def test_many_samples_at_once_give_what_each_gives_alone(tokenizer):
    samples = [make_sample((DOG,), (CAT, ODD)), make_sample((ODD,), image=None), make_sample((CAT,))]
    together = tokenize_samples(samples, tokenizer, "vicuna_v1", NUM_IMAGE_TOKENS)
    assert together == [tokenize_sample(s, tokenizer, "vicuna_v1", NUM_IMAGE_TOKENS) for s in samples]
    assert tokenize_samples([], tokenizer, "vicuna_v1", NUM_IMAGE_TOKENS) == []


def test_an_answer_that_a_tokenizer_joins_with_its_question_is_refused(small_tokenizer, tmp_path):
    # a vocabulary with a token ":▁", which ends the question and starts the answer
    small_tokenizer.save_pretrained(tmp_path)
    tokenizer_json = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer_json["model"]["vocab"][":▁"] = len(tokenizer_json["model"]["vocab"]) + 2
    tokenizer_json["model"]["merges"].insert(0, [":", "▁"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json))
    with pytest.raises(ValueError, match=r"sample 'one': the answer ' It .* does not start and end between"):
        tokenize_sample(make_sample((DOG,)), load_tokenizer(tmp_path), "vicuna_v1", NUM_IMAGE_TOKENS)


def test_a_sample_that_cannot_be_rendered_is_named(small_tokenizer):
    with pytest.raises(ValueError, match="sample 'one': a turn must not hold"):
        tokenize_sample(
            make_sample((Turn(question="<image>", answer="b"),)),
            small_tokenizer,
            "vicuna_v1",
            NUM_IMAGE_TOKENS,
        )
    with pytest.raises(ValueError, match="sample 'one' has no branches"):
        tokenize_sample(make_sample(), small_tokenizer, "vicuna_v1", NUM_IMAGE_TOKENS)


def test_loading_adds_image_and_pad_in_the_order_of_published_checkpoints(llama_tokenizer):
    spec = text_spec(llama_tokenizer, max_position=2048)
    assert (spec.image_token_id, spec.pad_token_id, len(llama_tokenizer)) == (32000, 32001, 32002)


def test_a_saved_tokenizer_loads_as_the_same_one(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    text = render_branch([DOG, ODD], "llama2", has_image=True).text
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_digits_are_single_tokens(tokenizer):
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("(4, 52, 13, 63)")["input_ids"])
    assert [p for p in pieces if p.strip("▁").isdigit()] == list("4521363")


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_puts_a_space_after_special_tokens_is_refused(small_tokenizer, tmp_path):
    small_tokenizer.save_pretrained(tmp_path)
    tokenizer_json = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer_json["pre_tokenizer"]["prepend_scheme"] = "always"
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # takes the file as it is
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"expected '<s>' first and \['<image>', 'b', '</s>'\] last"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("conversation", FORMATS)
def test_a_video_is_an_image_with_more_tokens(tokenizer, conversation):
    image = make_sample((DOG,))
    video = Sample(id="two", image=None, video="dog.mp4", branches=((DOG,),))
    as_image, as_video = tokenize_samples(
        [image, video], tokenizer, conversation, NUM_IMAGE_TOKENS, num_video_tokens=12
    )
    image_id = text_spec(tokenizer, max_position=1).image_token_id
    assert as_video.prefix_ids == as_image.prefix_ids + [image_id] * (12 - NUM_IMAGE_TOKENS)
    assert as_video.branches == as_image.branches
    assert (as_image.num_visual_tokens, as_video.num_visual_tokens) == (NUM_IMAGE_TOKENS, 12)


def test_a_video_for_a_model_of_images_is_refused(small_tokenizer):
    video = Sample(id="two", image=None, video="dog.mp4", branches=((DOG,),))
    with pytest.raises(ValueError, match=r"sample 'two' is about the video 'dog\.mp4'.*knows images alone"):
        tokenize_sample(video, small_tokenizer, "vicuna_v1", NUM_IMAGE_TOKENS)
    both = Sample(id="two", image="dog.jpg", video="dog.mp4", branches=((DOG,),))
    with pytest.raises(ValueError, match=r"also about the image 'dog\.jpg'"):
        tokenize_samples([both], small_tokenizer, "vicuna_v1", NUM_IMAGE_TOKENS, num_video_tokens=12)
