import copy

import pytest
import torch

from locvlm.muon import Muon, muon_groups, orthogonalize
from locvlm.world import backbones


def matrices(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 40), (2, 40, 16)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    left, _, right = torch.linalg.svd(matrices(*shape), full_matrices=False)
    given = torch.linspace(1.0, 0.1, min(shape[1:]))  # far apart: a random square matrix has some near 0
    done = orthogonalize(left * given @ right)
    values = left.transpose(1, 2) @ done @ right.transpose(1, 2)  # diagonal, if the directions have stayed
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    assert (values - torch.diag_embed(diagonal)).abs().max() < 1e-3


def test_matrices_together_are_as_matrices_alone():
    both = matrices(2, 8, 12)
    together = orthogonalize(both)
    for one, expected in zip(both, together, strict=True):
        assert torch.allclose(orthogonalize(one[None])[0], expected, atol=1e-5)


def test_it_steps_as_torch_does():
    theirs = torch.nn.Parameter(matrices(24, 16))
    ours = copy.deepcopy(theirs)
    settings = {"lr": 0.01, "weight_decay": 0.1}
    reference = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", momentum=0.95, **settings)
    optimizer = Muon([{"params": [ours], "muon": True}], **settings)
    start = ours.detach().clone()
    for step in range(4):
        gradient = matrices(24, 16, seed=step + 1)
        for parameter, owner in ((theirs, reference), (ours, optimizer)):
            parameter.grad = gradient.clone()
            owner.step()
    # torch rounds to bfloat16 inside
    assert (ours - theirs).norm() < 0.03 * (ours - start).norm()


def test_fused_matrices_are_stepped_one_by_one():
    parts = [torch.nn.Parameter(matrices(8, 8, seed=k)) for k in range(3)]
    fused = torch.nn.Parameter(torch.cat([p.detach() for p in parts]))
    alone = Muon([{"params": parts, "muon": True}], lr=0.1)
    together = Muon([{"params": [fused], "muon": True, "parts": 3}], lr=0.1)
    for k, part in enumerate(parts):
        part.grad = matrices(8, 8, seed=10 + k)
    fused.grad = torch.cat([part.grad for part in parts])
    alone.step()
    together.step()
    assert torch.allclose(fused, torch.cat([p.detach() for p in parts]), atol=1e-6)


def test_everything_else_has_adamw():
    vector, twin = (torch.nn.Parameter(matrices(6)) for _ in range(2))
    matrix = torch.nn.Parameter(matrices(4, 4))
    ours = Muon([{"params": [vector]}, {"params": [matrix], "muon": True}], lr=0.1, betas=(0.9, 0.98))
    theirs = torch.optim.AdamW([twin], lr=0.1, betas=(0.9, 0.98))
    for step in range(3):
        vector.grad = twin.grad = matrices(6, seed=step)
        matrix.grad = matrices(4, 4, seed=step)
        ours.step()
        theirs.step()
    assert torch.equal(vector, twin)


def test_only_matrices_inside_blocks_are_chosen():
    clip = backbones.build_clip(
        backbones.VisionSizes(width=32, layers=2, heads=2),
        backbones.CaptionSizes(width=32, layers=1, heads=2, embed=32),
    )
    clip.visual.proj.requires_grad_(False)
    names = {id(parameter): name for name, parameter in clip.named_parameters()}
    single, fused, other, plain = muon_groups(
        clip, learning_rate=0.1, muon_learning_rate=0.2, weight_decay=0.1
    )
    assert {names[id(p)].split(".")[-2] for p in single["params"]} == {"out_proj", "c_fc", "c_proj"}
    assert len(fused["params"]) == 3
    assert "token_embedding.weight" in {names[id(p)] for p in other["params"]}
    assert "visual.proj" not in {names[id(p)] for group in (other, plain) for p in group["params"]}
    assert plain["weight_decay"] == 0.0
    assert (single["lr"], fused["lr"], other["lr"], plain["lr"]) == (0.2, 0.2, 0.1, 0.1)


def test_a_saved_state_continues_as_if_never_stopped():
    def build():
        parameter = torch.nn.Parameter(matrices(6, 6))
        return parameter, Muon([{"params": [parameter], "muon": True}], lr=0.1)

    def step(parameter, optimizer, seed):
        parameter.grad = matrices(6, 6, seed=seed)
        optimizer.step()

    through, optimizer = build()
    for seed in range(4):
        step(through, optimizer, seed)
    first, saved = build()
    for seed in range(2):
        step(first, saved, seed)
    second, resumed = build()
    second.data.copy_(first.data)
    resumed.load_state_dict(copy.deepcopy(saved.state_dict()))
    for seed in range(2, 4):
        step(second, resumed, seed)
    assert torch.equal(through, second)


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match=r"shape \[\(3,\)\]: leave them to AdamW"):
        Muon([{"params": [torch.nn.Parameter(torch.zeros(3))], "muon": True}], lr=0.1)
