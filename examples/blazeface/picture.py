"""Two results drawn on one photograph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from examples.blazeface.model import Detection, Frame

__all__ = ["draw"]

#: Orange and blue stay apart for colour-blind readers.
REFERENCE_COLOUR = (230, 159, 0)
SECURE_COLOUR = (0, 114, 178)
#: Height of a line of the legend, in units of 1/256 of the picture.
LEGEND_LINE = 13


def draw(
    photograph: npt.NDArray[np.uint8],
    frame: Frame,
    reference: Sequence[Detection],
    secure: Sequence[Detection],
    labels: tuple[str, str] = ("onnxruntime, in the clear", "three parties, on shares"),
) -> Image.Image:
    """The photograph with both results: equal boxes show as a thin line inside a wide one.

    Args:
        photograph: uint8 ``[height, width, 3]``.
        frame: where the network's input lies on it (from ``preprocess``).
        reference: drawn wide.
        secure: drawn thin, on top.
        labels: what the legend calls the two.

    Returns:
        The photograph, untouched but for the boxes, above a legend.
    """
    unit = max(1, round(min(photograph.shape[:2]) / 256))
    height, width = photograph.shape[:2]
    # The legend has its own strip, so that it hides nothing.
    image = Image.new("RGB", (width, height + 2 * LEGEND_LINE * unit), (255, 255, 255))
    image.paste(Image.fromarray(photograph).convert("RGB"), (0, 0))
    pen = ImageDraw.Draw(image)
    styles = ((reference, REFERENCE_COLOUR, 5 * unit), (secure, SECURE_COLOUR, 2 * unit))
    for detections, colour, line in styles:
        for face in detections:
            left, top, right, bottom = frame.to_pixels(face.box).tolist()
            margin = (line - 1) / 2
            box = (left - margin, top - margin, right + margin, bottom + margin)
            pen.rectangle(box, outline=colour, width=line)
            for x, y in frame.to_pixels(face.keypoints).tolist():
                pen.ellipse((x - line, y - line, x + line, y + line), outline=colour)
    font = ImageFont.load_default(size=9 * unit)
    for row, (label, (_, colour, _)) in enumerate(zip(labels, styles, strict=True)):
        y = height + row * LEGEND_LINE * unit
        pen.rectangle((4 * unit, y + 4 * unit, 20 * unit, y + 9 * unit), fill=colour)
        pen.text((26 * unit, y + unit), label, fill=(0, 0, 0), font=font)
    return image
