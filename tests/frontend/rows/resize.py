"""Resampling."""

import numpy as np

from tests.frontend.rows.table import Row, floats, ints

X = {"x": (1, 2, 4, 5)}
NO_ROI = np.zeros(0, np.float32)


def scaled(name: str, scales, opsets=(11, 13, 18, 19), **attrs) -> Row:
    given = {"r": NO_ROI, "s": floats(*scales)}
    return Row(f"resize {name}", "Resize", X, given, attrs, opsets, disclosed=len(set(scales)))


def sized(name: str, sizes, opsets=(13, 18, 19), reference=False, **attrs) -> Row:
    operands = ("x", "", "", "n")
    return Row(f"resize {name}", "Resize", X, {"n": ints(*sizes)}, attrs, opsets, operands,
               reference=reference)  # fmt: skip


UP, DOWN, ODD = (1, 1, 2, 3), (1, 1, 0.5, 0.6), (1, 1, 1.7, 0.8)
CROP = {"coordinate_transformation_mode": "tf_crop_and_resize"}
HOW = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")

ROWS = [
    Row("upsample nearest attribute", "Upsample", X, {}, {"scales": [1.0, 1.0, 2.0, 3.0]}, (7, 8)),
    Row("upsample nearest", "Upsample", X, {"s": floats(1, 1, 2, 3)}, {}, (9,), disclosed=3),
    Row("upsample linear", "Upsample", X, {"s": floats(1, 1, 2, 2)}, {"mode": "linear"}, (9,),
        disclosed=2),
    Row("resize 10 nearest", "Resize", X, {"s": floats(1, 1, 2, 2)}, {}, (10,), disclosed=2),
    Row("resize 10 linear", "Resize", X, {"s": floats(1, 1, 2, 2)}, {"mode": "linear"}, (10,),
        disclosed=2),
    *(
        scaled(f"{mode} {how} {name}", scales, mode=mode, coordinate_transformation_mode=how)
        for mode in ("nearest", "linear")
        for how in HOW
        for name, scales in (("up", UP), ("down", DOWN), ("odd", ODD))
    ),
    *(
        scaled(f"nearest {near}", ODD, (13, 19), nearest_mode=near)
        for near in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    scaled("tf half pixel", UP, (11,), coordinate_transformation_mode="tf_half_pixel_for_nn"),
    scaled("symmetric", ODD, (19,), mode="linear",
           coordinate_transformation_mode="half_pixel_symmetric"),
    scaled("cubic up", UP, mode="cubic"),
    scaled("cubic down", DOWN, mode="cubic", cubic_coeff_a=-0.5),
    scaled("cubic outside", UP, mode="cubic", exclude_outside=1),
    scaled("linear antialias", DOWN, (18, 19), mode="linear", antialias=1),
    scaled("linear antialias odd", ODD, (18, 19), mode="linear", antialias=1,
           coordinate_transformation_mode="pytorch_half_pixel"),
    scaled("cubic antialias", DOWN, (18, 19), mode="cubic", antialias=1),
    Row("resize crop", "Resize", X, {"r": floats(0, 0, 0.4, 0.6, 1, 1, 0.6, 0.8),
        "n": ints(1, 2, 3, 3)}, {"mode": "linear", **CROP}, (13, 19), ("x", "r", "", "n"), 5),
    Row("resize crop outside", "Resize", X, {"r": floats(0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7),
        "n": ints(1, 2, 3, 3)}, {"mode": "linear", "extrapolation_value": 10.0, **CROP}, (13, 19),
        ("x", "r", "", "n"), 6),
    Row("resize crop nearest", "Resize", X, {"r": floats(0, 0, 0.25, 0.2, 1, 1, 0.75, 1),
        "n": ints(1, 2, 3, 7)}, CROP, (13, 19), ("x", "r", "", "n"), 5),
    sized("sizes nearest", (1, 2, 7, 3)),
    sized("sizes linear", (1, 2, 7, 3), mode="linear"),
    sized("batch and channels", (2, 3, 4, 5), mode="nearest"),
    Row("resize axes", "Resize", X, {"s": floats(2, 3)}, {"axes": [3, 2]}, (18, 19),
        ("x", "", "s"), 2),
    Row("resize not larger", "Resize", X, {"n": ints(6, 6)},
        {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, (18, 19), ("x", "", "", "n"),
        reference=True),
    Row("resize not smaller", "Resize", X, {"n": ints(6, 6)},
        {"axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller", "mode": "linear"}, (18, 19),
        ("x", "", "", "n"), reference=True),
]  # fmt: skip
