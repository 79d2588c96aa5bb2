from dataclasses import replace

import pytest

from locvlm.benchmarks.peers.data import prepare, read_pairs, write_scenes
from locvlm.data.tokenize import load_tokenizer, tokenize_samples
from locvlm.io import read_records
from locvlm.records import Sample, Turn


def test_a_pair_is_there_for_every_query_of_every_record(work):
    records = list(read_records(work.records))
    assert [len(record.queries) for record in records] == [3] * 4
    pairs = read_pairs(work)
    assert len(pairs) == 12
    images = [pair.image for pair in pairs]
    assert images == [image for image in images[::3] for _ in range(3)]  # those of an image follow each other
    assert {str(work.images / str(record.image)) for record in records} == set(images)
    assert work.passes == 1


def test_prompt_and_completion_apart_have_the_tokens_of_the_whole(work):
    tokenizer = load_tokenizer(work.start)
    for pair in read_pairs(work):
        turn = Turn(question=pair.question, answer=pair.answer)
        sample = Sample(id="a", image=pair.image, branches=((turn,),))
        (whole,) = tokenize_samples([sample], tokenizer, "vicuna_v1", num_image_tokens=1)
        (branch,) = whole.branches
        prompt, completion = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (pair.prompt, pair.completion)
        )
        assert prompt + completion == whole.prefix_ids + branch.ids
        assert sum(branch.supervised) == len(completion)


def test_too_few_records_and_passes_that_do_not_divide_a_step_are_refused(work, tmp_path):
    with pytest.raises(ValueError, match="2 steps take 4 records, got 3"):
        prepare(replace(work, folder=tmp_path / "new"), list(read_records(work.records))[:3])
    with pytest.raises(ValueError, match="6 pairs, which passes of 4 do not divide"):
        replace(work, pairs_per_pass=4)


def test_scenes_ask_as_much_as_is_wanted(tmp_path):
    images, records = write_scenes(tmp_path, 3, pairs=8)
    assert len(records) == 3
    assert all(len(record.queries) >= 8 and (images / str(record.image)).is_file() for record in records)
