import numpy as np

from locvlm.data.collate import collate
from locvlm.data.packing import PackingConfig, plan_step
from locvlm.data.tokenize import load_tokenizer, tokenize_samples
from locvlm.records import Sample, Turn
from locvlm.training.preview import describe_batch


def test_the_first_batch_shows_each_branch_with_exactly_its_answers_marked(tiny_world):
    tokenizer = load_tokenizer(tiny_world.init)
    where, what, sure, hello = (
        Turn(question=question, answer=answer)
        for question, answer in (
            ("Where?", "Left."),
            ("What?", "A dog."),
            ("Sure?", "Yes."),
            ("Hello", "Hi."),
        )
    )
    image = Sample(id="a", image="a.png", branches=((where,), (what, sure)))
    text_only = Sample(id="b", image=None, branches=((hello,),))
    plan = plan_step(
        tokenize_samples([image, text_only], tokenizer, "vicuna_v1", 4),
        PackingConfig(max_row_tokens=512),
        accumulation=1,
        rows_per_accumulation=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    pixels = {0: np.zeros((3, 56, 56), dtype=np.float32)}
    batch = collate(
        plan.rows_of(0, 1)[0], pixels=pixels, pad_token_id=tokenizer.pad_token_id, num_targets=1.0
    )

    lines = describe_batch(batch, tokenizer).splitlines()
    branches = sorted(line.split("ASSISTANT:", 1)[1] for line in lines if line.startswith("    |"))

    assert sum("<image> x 4" in line for line in lines) == 1
    assert [branch.replace(" ", "") for branch in branches] == [
        ">>>Adog.</s><<<USER:Sure?ASSISTANT:>>>Yes.</s><<<",
        ">>>Hi.</s><<<",
        ">>>Left.</s><<<",
    ]
