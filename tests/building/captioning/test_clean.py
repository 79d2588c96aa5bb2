import pytest

from locvlm.building.captioning.clean import (
    ABSENT,
    COORDINATES,
    CUT_OFF,
    EMPTY,
    LOOP,
    REFUSAL,
    TOO_LONG,
    UNNAMED,
    clean,
    loops,
    problem,
)

SENTENCE = "A brown dog lies to the left of the sofa"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (SENTENCE, SENTENCE),
        (f"{SENTENCE}.", SENTENCE),
        (f"  {SENTENCE} . \n", SENTENCE),
        (f"{SENTENCE}. It sleeps.", SENTENCE),
        (f"{SENTENCE}! it sleeps", f"{SENTENCE}!"),
        (f'"{SENTENCE}."', SENTENCE),
        (f"“{SENTENCE}”.", SENTENCE),
        (f"**{SENTENCE}.**", SENTENCE),
        (f"# {SENTENCE}", SENTENCE),
        (f"- {SENTENCE}\n- It sleeps", f"{SENTENCE} It sleeps"),
        (f"1. {SENTENCE}.\n2. It sleeps.", SENTENCE),
        (f"ASSISTANT: {SENTENCE}.</s>", SENTENCE),
        (f"**Description:** {SENTENCE}.", SENTENCE),
        (f"Answer: Caption: {SENTENCE}", SENTENCE),
        (f"{SENTENCE}. USER: And the cat? ASSISTANT: It sits.", SENTENCE),
        (f"{SENTENCE}\n### Human: next", SENTENCE),
        (f"Sure! Here is a short description of the dog: {SENTENCE}.", SENTENCE),
        (f"Certainly, {SENTENCE}.", SENTENCE),
        (f"<|im_start|>{SENTENCE}<|im_end|>", SENTENCE),
        ("A   brown\n dog", "A brown dog"),
        ("There is a red mug.", "red mug"),
        ("In the image, there are the two mugs.", "two mugs"),
        ("There is no mug.", "There is no mug"),
        ("The dog wears a no. 7 shirt. It is red.", "The dog wears a no. 7 shirt"),
        ("A dog of Mr. Smith sits here. It barks.", "A dog of Mr. Smith sits here"),
        ("A 1.5 m long kite, e.g. a dragon. It flies.", "A 1.5 m long kite, e.g. a dragon"),
        ('The sign says "Stop." It is red.', 'The sign says "Stop."'),
        ('"Stop" is on the "red" sign', '"Stop" is on the "red" sign'),
        ("The dog's ball", "The dog's ball"),
        ("", ""),
        (" . \n", ""),
        ('""', ""),
    ],
)
def test_what_is_left_of_an_answer(answer, expected):
    assert clean(answer) == expected
    assert clean(clean(answer)) == clean(answer)


def test_all_sentences_are_kept_if_asked_for():
    assert clean(f"{SENTENCE}.  It sleeps.\n", whole=True) == f"{SENTENCE}. It sleeps"


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (SENTENCE, None),
        ("a dog", None),
        ("A dog that does not have a collar, whose face is not visible", None),
        ("A dog with a number 7 on its back, 2 m from the door", None),
        ("A dog to the left of the chair and to the left of the table", None),
        ("A big, big dog", None),
        ("", EMPTY),
        ("...", EMPTY),
        ("I'm sorry, I do not see the dog", REFUSAL),
        ("As an AI language model, I look at no dog", REFUSAL),
        ("The dog cannot be described", REFUSAL),
        ("Unable to see a dog", REFUSAL),
        ("There is no dog in the image", ABSENT),
        ("There is no such object in the image", ABSENT),
        ("The dog is not visible", ABSENT),
        ("No brown dog is visible here", ABSENT),
        ("The image does not contain a dog", ABSENT),
        ("A dog at (12, 30, 44, 59)", COORDINATES),
        ("A dog at [0.1, 0.25]", COORDINATES),
        ("dog 69, 28, 82, 48, 95", COORDINATES),
        ("<loc_123> a dog", COORDINATES),
        ("the dog in terms of (x1,y1,x2,y2) bbox", COORDINATES),
        ("a dog at the bottom right and a dog at the bottom right of it", LOOP),
        ("a very very very good dog", LOOP),
        ("dog and dog and dog and dog", LOOP),
        (" ".join(f"word{k}" for k in range(20)) + " dog", TOO_LONG),
        ("A cat on the sofa", UNNAMED),
    ],
)
def test_what_is_wrong_with_a_description(description, expected):
    found = problem(description, description, category="dog", is_cut_off=False, max_words=20)
    assert found == expected


def test_a_cut_answer_is_of_use_if_its_first_sentence_was_complete():
    def found(answer: str) -> str | None:
        return problem(answer, clean(answer), category="dog", is_cut_off=True, max_words=50)

    assert found(f"{SENTENCE}. It is") is None
    assert found("A brown dog lies to the left of the") == CUT_OFF
    assert found("A brown dog of Mr. Smith lies to the") == CUT_OFF


def test_loops_are_told_from_what_people_say_twice():
    assert loops("a b c d e f x a b c d e f")
    assert not loops("a b c d e x a b c d e")
    assert loops("up and up and up and up")
    assert not loops("up and up and down")
    assert not loops("")
