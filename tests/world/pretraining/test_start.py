import pytest
import torch

from locvlm.world import backbones
from locvlm.world.pretraining.start import warm_start

VISION = backbones.VisionSizes(width=64, layers=2, heads=2)
TEXT = backbones.CaptionSizes(width=32, layers=1, heads=2, embed=32)


@pytest.fixture(scope="module")
def pixels():
    # smooth pictures: neighbouring pixels alike, as in scenes
    noise = torch.randn(40, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, (VISION.canvas, VISION.canvas), mode="bilinear")


@pytest.fixture(scope="module")
def started(pixels):
    torch.manual_seed(0)
    clip = backbones.build_clip(VISION, TEXT).eval()
    warm_start(clip, pixels, seed=0)
    return clip


def test_patches_enter_whitened(started, pixels):
    torch.manual_seed(0)
    fresh = backbones.build_clip(VISION, TEXT)

    def correlation(clip):
        seen = clip.visual.conv1(pixels).flatten(2).transpose(1, 2).flatten(0, 1)  # (patches, width)
        return (torch.corrcoef(seen.T.detach()) - torch.eye(VISION.width)).abs().mean()

    assert correlation(started) < 0.5 * correlation(fresh)


def test_near_positions_are_alike_and_far_ones_are_not(started):
    grid = VISION.canvas // VISION.patch
    places = torch.nn.functional.normalize(started.visual.positional_embedding[1:], dim=1)
    alike = (places @ places.T).view(grid, grid, grid, grid)
    assert alike[3, 3, 3, 4] > alike[3, 3, 3, 7]
    assert alike[3, 3, 4, 3] > alike[3, 3, 7, 3]
    assert started.visual.positional_embedding[0].abs().max() == 0


def test_the_order_of_words_hardly_matters_at_first(started):
    one, two = torch.zeros(2, 1, TEXT.context, dtype=torch.long)
    one[0, :6] = torch.tensor([1, 50, 60, 70, 80, backbones.VOCAB - 1])
    two[0, :6] = torch.tensor([1, 80, 50, 70, 60, backbones.VOCAB - 1])
    other = one.clone()
    other[0, 2] = 90
    with torch.no_grad():
        a, b, c = (started.encode_text(ids, normalize=True) for ids in (one, two, other))
    assert (a - b).norm() < 0.3 * (a - c).norm()


def test_it_is_seeded(started, pixels):
    torch.manual_seed(0)
    again = backbones.build_clip(VISION, TEXT)
    warm_start(again, pixels, seed=0)
    for (name, first), second in zip(started.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(first, second), name
