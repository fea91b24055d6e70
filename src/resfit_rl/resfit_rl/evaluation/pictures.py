"""What episodes looked like, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from resfit_rl.evaluation.parallel import PICTURE_TIMES, EpisodeResult

_WIDTH = 168  # pixels, least of a picture on the sheet
_GAP, _LINE = 4, 20


def contact_sheet(episodes: Sequence[EpisodeResult], title: str) -> Image.Image:
    """Episodes under each other: a row per camera, a column per part of the episode.

    Args:
        episodes: at least one, all with pictures of the same cameras and sizes.
        title: written on top.
    """
    first = episodes[0].pictures[0]
    sizes = {camera: image.shape[:2] for camera, image in first.items()}
    scale = max(1, -(-_WIDTH // max(width for _, width in sizes.values())))
    column = scale * max(width for _, width in sizes.values()) + _GAP
    group = _LINE + sum(scale * height + _GAP for height, _ in sizes.values())
    sheet = Image.new(
        "RGB",
        (_GAP + column * len(PICTURE_TIMES), 2 * _LINE + group * len(episodes)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    draw.text((_GAP, 3), title, "black", font)
    for number, name in enumerate(PICTURE_TIMES):
        draw.text((_GAP + column * number, _LINE + 3), name, "black", font)
    top = 2 * _LINE
    for episode in episodes:
        label = f"seed {episode.seed}, {episode.steps} steps: {', '.join(sizes)}"
        draw.text((_GAP, top + 3), label, "black", font)
        top += _LINE
        for camera, (height, width) in sizes.items():
            for number, pictures in enumerate(episode.pictures):
                picture = Image.fromarray(pictures[camera])
                picture = picture.resize((scale * width, scale * height), Image.Resampling.NEAREST)
                sheet.paste(picture, (_GAP + column * number, top))
            top += scale * height + _GAP
    return sheet
