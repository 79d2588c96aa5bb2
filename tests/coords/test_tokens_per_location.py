from locvlm.coords.codec import CODECS, build_codec
from locvlm.geometry import Box

PAPER_BOX = Box(10 / 512, 120 / 512, 30 / 512, 145 / 512)


def test_the_worked_example_costs_what_the_llama_tokenizer_charges(shared_data):
    from locvlm.data.tokenize import load_tokenizer

    tokenizer = load_tokenizer(shared_data / "tokenizer")
    costs = {
        name: len(
            tokenizer(
                build_codec(name, canvas=224, patch=14).encode(PAPER_BOX), add_special_tokens=False
            ).input_ids
        )
        for name in CODECS
    }
    papers = {"nfp": 32, "ivb": 15, "diga": 19}
    assert costs == {**papers, "shikra": 28, "llava": 24, "thousand": 18, "kosmos2": 23}
