"""Random shift of images."""

from __future__ import annotations

import torch


def shifted_frames(
    frames: torch.Tensor, index: torch.Tensor, shift: torch.Tensor, pad: int
) -> torch.Tensor:
    """Gather frames, each shifted in rows and columns with its border replicated.

    The same as padding by replication and cropping at a place of one's choice. Whole rows are
    copied, never single pixels, and uint8 stays uint8; no step depends on a value, so it can be
    recorded in a CUDA graph.

    Args:
        frames: (N, H, W, 3) uint8, contiguous.
        index: (B,) int64, frames to take.
        shift: (2, B) int64, rows and columns, each within -pad..pad: pixel (r, c) of the result is
            pixel (r + shift[0], c + shift[1]) of the frame, limited to it.
        pad: largest shift, pixels; 0 leaves the frames as they are.

    Returns:
        (B, H, W, 3) uint8.
    """
    if pad == 0:
        return frames.index_select(0, index)
    count, height, width, channels = frames.shape
    batch = index.shape[0]
    row = torch.arange(height, device=frames.device)
    row = (row[None] + shift[0][:, None]).clamp_(0, height - 1) + index[:, None] * height
    padded = frames.new_empty(batch * height, width + 2 * pad, channels)
    inner = padded[:, pad : pad + width]
    rows = frames.view(count * height, width * channels).index_select(0, row.flatten())
    inner.copy_(rows.view(batch * height, width, channels))
    padded[:, :pad] = inner[:, :1]
    padded[:, pad + width :] = inner[:, -1:]
    # Rows of `width` pixels from every pixel on, overlapping: choosing one is choosing a column.
    places = batch * height * (width + 2 * pad) - width + 1
    overlapping = padded.view(-1).as_strided((places, width * channels), (channels, 1))
    start = torch.arange(batch * height, device=frames.device).view(batch, height)
    start = start * (width + 2 * pad) + pad + shift[1][:, None]
    return overlapping.index_select(0, start.flatten()).view(batch, height, width, channels)


def random_shift(images: torch.Tensor, pad: int, generator: torch.Generator) -> torch.Tensor:
    """Each of `images`, (B, H, W, 3) uint8, shifted by its own random amount up to `pad` pixels.

    Args:
        generator: CPU generator the shifts are drawn from.
    """
    shift = torch.randint(-pad, pad + 1, (2, len(images)), generator=generator)
    index = torch.arange(len(images), device=images.device)
    return shifted_frames(images, index, shift.to(images.device), pad)
