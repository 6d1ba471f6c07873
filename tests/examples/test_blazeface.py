import numpy as np
import onnx
import pytest

from examples.blazeface import reference
from examples.blazeface.model import (
    INPUT_NAME,
    OUTPUT_NAMES,
    Candidates,
    Detection,
    anchors,
    compare,
    decode,
    detect,
    iou,
    model_path,
    preprocess,
    suppress,
)
from examples.blazeface.photographs import (
    astronaut,
    calibration_inputs,
    calibration_photographs,
)
from examples.blazeface.picture import SECURE_COLOUR, draw
from examples.blazeface.prepare import prepare


def candidates(scores, boxes):
    n = len(scores)
    points = np.arange(n * 12, dtype=np.float64).reshape(n, 6, 2)
    return Candidates(np.array(scores, np.float64), np.array(boxes, np.float64), points)


def outputs_of(logits, coded):
    """The network's four outputs from ``[896]`` logits and ``[896, 16]`` codes."""
    return dict(
        zip(
            OUTPUT_NAMES,
            (
                logits[None, :512, None],
                logits[None, 512:, None],
                coded[None, :512],
                coded[None, 512:],
            ),
            strict=True,
        )
    )


def test_the_model_is_the_one_described():
    model = onnx.load(str(model_path()))
    onnx.checker.check_model(model)
    assert [i.name for i in model.graph.input] == [INPUT_NAME]
    assert [o.name for o in model.graph.output] == list(OUTPUT_NAMES)
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 37


def test_astronaut_has_exactly_one_face_at_the_right_place():
    image, frame = preprocess(astronaut())
    (face,) = detect(reference.run(image))
    assert face.score == pytest.approx(0.92, abs=0.02)
    eyes_nose_mouth = frame.to_pixels(face.keypoints[:4])
    # Read off the photograph by eye, in its pixels.
    by_eye = np.array([[204, 101], [248, 107], [222, 126], [219, 146]])
    assert np.abs(eyes_nose_mouth - by_eye).max() < 8
    assert iou(frame.to_pixels(face.box), [177, 80, 272, 175]) > 0.95


def test_detection_survives_a_letterbox():
    # A wide cut-out around the head: the network sees it with borders above and below.
    top, left = 10, 60
    image, frame = preprocess(astronaut()[top : top + 240, left : left + 320])
    (face,) = detect(reference.run(image))
    moved = frame.to_pixels(face.box) + np.array([left, top, left, top])
    assert iou(moved, [177, 80, 272, 175]) > 0.8


def test_calibration_pictures_are_others_and_in_range():
    inputs = calibration_inputs()
    photographs = calibration_photographs()
    assert inputs.shape == (len(photographs), 128, 128, 3)
    assert inputs.dtype == np.float32
    assert inputs.min() >= -1
    assert inputs.max() <= 1
    subject, _ = preprocess(astronaut())
    assert np.abs(inputs - subject).reshape(len(inputs), -1).max(axis=1).min() > 0.5
    assert len({picture.tobytes() for picture in inputs}) == len(inputs)


def test_preprocess_scales_and_pads():
    image, frame = preprocess(np.full((64, 256), 255, np.uint8))
    assert image.shape == (1, 128, 128, 3)
    assert image[0, 64].min() == 1
    assert image[0, 0].max() == -1
    # The middle of the input is the middle of the photograph.
    assert frame.to_pixels([0.5, 0.5]).tolist() == [128, 32]


@pytest.mark.parametrize(
    "photograph",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4,), np.uint8),
    ],
)
def test_preprocess_refuses_what_is_no_photograph(photograph):
    with pytest.raises(ValueError, match="a photograph is uint8"):
        preprocess(photograph)


def test_anchors_are_the_centres_of_two_grids():
    grid = anchors()
    assert grid.shape == (896, 2)
    assert grid[0].tolist() == grid[1].tolist() == [1 / 32, 1 / 32]
    assert grid[2].tolist() == [3 / 32, 1 / 32]
    assert grid[512].tolist() == grid[517].tolist() == [1 / 16, 1 / 16]
    assert grid[518].tolist() == [3 / 16, 1 / 16]
    assert grid[-1].tolist() == [15 / 16, 15 / 16]


def test_decode_places_a_box_at_its_anchor():
    logits = np.full(896, -200, np.float32)
    coded = np.zeros((896, 16), np.float32)
    logits[514] = 0
    coded[514, :6] = [8, -4, 32, 16, 12.8, 0]
    result = decode(outputs_of(logits, coded))
    assert result.scores[514] == 0.5
    assert result.scores[0] < 1e-20
    x, y = anchors()[514]
    centre = np.array([x + 8 / 128, y - 4 / 128])
    half = np.array([16 / 128, 8 / 128])
    assert np.allclose(result.boxes[514], [*(centre - half), *(centre + half)])
    assert np.allclose(result.keypoints[514, 0], [x + 0.1, y])


def test_decode_names_a_wrong_output():
    outputs = outputs_of(np.zeros(896), np.zeros((896, 16)))
    with pytest.raises(ValueError, match=r"Identity_3:0 must be \[1, 384, 16\], got nothing"):
        decode({name: outputs[name] for name in OUTPUT_NAMES[:3]})
    with pytest.raises(ValueError, match=r"Identity:0 must be \[1, 512, 1\], got \[1, 384, 1\]"):
        decode({**outputs, "Identity:0": outputs["Identity_1:0"]})


def test_iou():
    unit = [0, 0, 1, 1]
    assert iou(unit, unit) == 1
    assert iou(unit, [0.5, 0, 1.5, 1]) == pytest.approx(1 / 3)
    assert iou(unit, [1, 1, 2, 2]) == 0
    assert iou([0, 0, 0, 0], [0, 0, 0, 0]) == 0
    assert iou([1, 1, 0, 0], unit) == 0
    assert iou(unit, np.array([unit, [0, 0, 0.5, 1]])).tolist() == [1, 0.5]


def test_suppress_blends_overlapping_boxes_by_score():
    found = suppress(
        candidates(
            [0.8, 0.9, 0.1, 0.95],
            [[0.1, 0, 1.1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [5, 5, 6, 6]],
        )
    )
    assert [face.score for face in found] == [0.95, 0.9]
    assert found[0].box.tolist() == [5, 5, 6, 6]
    shift = 0.1 * 0.8 / 1.7
    assert np.allclose(found[1].box, [shift, 0, 1 + shift, 1])
    # Candidate 1's keypoints begin at 12, candidate 0's at 0.
    assert found[1].keypoints[0, 0] == pytest.approx(12 * 0.9 / 1.7)


def test_suppress_ends_on_boxes_without_area():
    found = suppress(candidates([0.9, 0.8], [[1, 1, 0, 0], [1, 1, 0, 0]]))
    assert [face.score for face in found] == [0.9, 0.8]


def test_suppress_of_nothing():
    assert suppress(candidates([0.5], [[0, 0, 1, 1]])) == []


def test_compare_sees_count_order_and_place():
    def face(left):
        return Detection(0.9, np.array([left, 0, left + 1, 1.0]), np.zeros((6, 2)))

    assert compare([], []).same
    assert compare([face(0), face(5)], [face(0.001), face(5)]).same
    assert not compare([face(0), face(5)], [face(5), face(0)]).same
    assert not compare([face(0)], [face(0), face(5)]).same
    assert not compare([face(0)], [face(0.02)]).same


def test_picture_shows_the_box_where_the_face_is():
    photograph = astronaut()
    _, frame = preprocess(photograph)
    box = np.array([0.25, 0.25, 0.5, 0.5])
    face = Detection(1.0, box, np.tile(box[:2], (6, 1)))
    picture = np.asarray(draw(photograph, frame, [face], [face]))
    assert tuple(picture[128, 192]) == SECURE_COLOUR
    assert tuple(picture[192, 256]) == SECURE_COLOUR
    assert np.array_equal(picture[300:512], photograph[300:])
    assert picture.shape[0] > 512


def test_prepare_writes_what_the_compiler_reads(tmp_path):
    files = prepare(tmp_path / "out")
    assert files.model.read_bytes() == model_path().read_bytes()
    with np.load(files.image) as image, np.load(files.calibration) as calibration:
        assert image.files == calibration.files == [INPUT_NAME]
        assert image[INPUT_NAME].shape == (1, 128, 128, 3)
        assert calibration[INPUT_NAME].shape == (10, 128, 128, 3)
