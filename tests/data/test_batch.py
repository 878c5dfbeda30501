"""Boxes of crops as masks on the device."""

import torch

from co2s_cli.data.batch import box_masks


def test_a_mask_holds_the_pixels_of_its_box_and_an_empty_box_none():
    masks = box_masks([(1, 2, 3, 2), (0, 0, 0, 0), (6, 7, 2, 1)], 8, torch.device("cpu"))
    expected = torch.zeros(3, 8, 8, dtype=torch.bool)
    expected[0, 1:4, 2:4] = True
    expected[2, 6:8, 7] = True
    assert torch.equal(masks, expected)
