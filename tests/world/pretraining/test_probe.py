from locvlm.world import backbones
from locvlm.world.pretraining import views
from locvlm.world.pretraining.probe import probe_encoder, probe_lookup


def shipped(model, file):
    model.load_state_dict(backbones.load_weights(backbones.WEIGHTS / file))
    return model


def test_the_shipped_encoder_names_and_places_things_of_scenes_it_has_not_seen(encode):
    fit, test = (
        [views.store_scene(index, seed=123) for index in chosen] for chosen in (range(60), range(60, 100))
    )
    scores = probe_encoder(shipped(backbones.build_clip(), backbones.CLIP_FILE), fit, test, encode)
    assert scores["named"] > 0.7  # chance: 1 of 40
    untrained = probe_encoder(backbones.build_clip(), fit, test, encode)
    assert untrained["named"] < 0.2
    assert scores["linear_box_miou"] > untrained["linear_box_miou"] + 0.1


def test_the_shipped_language_model_finds_one_thing_of_four(writer, embedder, decode):
    """Nearly always in a grid of layout tokens, more often than not in lists of five forms."""
    llm = shipped(backbones.build_llm(), backbones.LLM_FILE)
    for layout, least in (("grid", 0.8), ("list", 0.4)):
        found = probe_lookup(llm, writer, embedder, decode, layout=layout, num_things=4, tries=10)
        assert found >= least, layout


def test_a_language_model_that_has_learned_nothing_finds_nothing(writer, embedder, decode):
    llm = backbones.build_llm()
    assert probe_lookup(llm, writer, embedder, decode, layout="grid", num_things=1, tries=2) == 0
