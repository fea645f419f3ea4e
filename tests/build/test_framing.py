"""Images at several sizes: whole, inside the frame, and nothing learned from what was added."""

from __future__ import annotations

import torch

from perfusion_registry.build.framing import framed


def test_at_full_size_nothing_changes() -> None:
    images, masks = torch.rand(2, 3, 8, 12), torch.rand(2, 1, 8, 12)
    shown, weights = framed(images, masks, (1.0, 1.0), 0)
    assert torch.equal(shown, torch.cat([images, images]))
    assert torch.equal(weights, torch.cat([masks, masks]))


def test_a_smaller_image_lies_whole_in_the_frame_with_its_edges_stretched() -> None:
    images, masks = torch.rand(6, 3, 16, 24), torch.ones(6, 1, 16, 24)
    shown, weights = framed(images, masks, (0.5,), 3)
    small = torch.nn.functional.avg_pool2d(images, 2)
    places = set()
    for n in range(6):
        inside = weights[n, 0].nonzero()
        top, left = inside.min(0).values.tolist()
        places.add((top, left))
        assert inside.max(0).values.tolist() == [top + 7, left + 11]
        assert torch.allclose(shown[n, :, top : top + 8, left : left + 12], small[n], atol=1e-6)
        for y, x in ((0, 0), (15, 23), (0, 23)):
            nearest = small[n, :, min(max(y - top, 0), 7), min(max(x - left, 0), 11)]
            assert torch.allclose(shown[n, :, y, x], nearest, atol=1e-6)
    assert len(places) > 1
    assert set(weights.unique().tolist()) == {0, 1}


def test_places_come_from_the_seed_alone() -> None:
    images, masks = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    first = framed(images, masks, (1.0, 0.6), 7)
    torch.manual_seed(1)
    again = framed(images, masks, (1.0, 0.6), 7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], framed(images, masks, (1.0, 0.6), 8)[0])
