"""Random shift of images."""

from __future__ import annotations

import torch


def random_shift(images: torch.Tensor, pad: int, generator: torch.Generator) -> torch.Tensor:
    """Shift each image by up to `pad` pixels in x and y, replicating the border.

    The same as padding by replication and cropping at a random place, done as one gather so that
    uint8 images stay uint8.

    Args:
        images: (B, H, W, C), any dtype.
        pad: largest shift, pixels; 0 returns the images as they are.
        generator: CPU generator the shifts are drawn from.

    Returns:
        (B, H, W, C), dtype of `images`.
    """
    if pad == 0:
        return images
    batch, height, width, _ = images.shape
    shifts = torch.randint(-pad, pad + 1, (2, batch, 1), generator=generator)
    rows = (torch.arange(height)[None] + shifts[0]).clamp_(0, height - 1)
    columns = (torch.arange(width)[None] + shifts[1]).clamp_(0, width - 1)
    # One index over flattened pixels: on a CPU several times faster than indexing each axis.
    flat = (torch.arange(batch)[:, None, None] * height + rows[:, :, None]) * width
    flat = (flat + columns[:, None, :]).reshape(-1).to(images.device)
    pixels = images.reshape(batch * height * width, -1)
    return pixels.index_select(0, flat).reshape(images.shape)
