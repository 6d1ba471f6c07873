"""Shapes, and moving, repeating or cutting whole axes."""

import numpy as np

from tests.frontend.rows.table import FLOAT, Row, floats, ints, weights

X = {"x": (2, 3, 4)}
IMAGE = {"x": (1, 8, 2, 3)}


def padded(name: str, x, pads, mode: str, opsets=(7, 11, 13, 21)) -> list[Row]:
    old = tuple(o for o in opsets if o < 11)
    new = tuple(o for o in opsets if o >= 11)
    rows = [
        Row(f"pad {mode} {name}", "Pad", {"x": x}, {}, {"pads": pads, "mode": mode}, old),
        Row(f"pad {mode} {name} input", "Pad", {"x": x}, {"p": ints(*pads)}, {"mode": mode}, new),
    ]
    return [row for row in rows if row.opsets]


def sliced(name: str, starts, ends, axes=None, steps=None, x=(4, 5, 6)) -> list[Row]:
    given = {"s": ints(*starts), "e": ints(*ends)}
    attrs = {"starts": starts, "ends": ends} | ({} if axes is None else {"axes": axes})
    old = [Row(f"slice {name}", "Slice", {"x": x}, {}, attrs, (7, 9))] if steps is None else []
    if axes is not None:
        given["a"] = ints(*axes)
    if steps is not None:
        given["t"] = ints(*steps)
    return [*old, Row(f"slice {name} inputs", "Slice", {"x": x}, given, {}, (10, 11, 13))]


def split(name: str, count: int, x, sizes=None, **attrs) -> list[Row]:
    outputs = (FLOAT,) * count
    if sizes is None:
        new = attrs | {"num_outputs": count}
        return [
            Row(f"split {name}", "Split", {"x": x}, {}, attrs, (7, 11, 13), outputs=outputs),
            Row(f"split {name} count", "Split", {"x": x}, {}, new, (18,), outputs=outputs),
        ]
    old = attrs | {"split": sizes}
    given = {"s": ints(*sizes)}
    return [
        Row(f"split {name}", "Split", {"x": x}, {}, old, (7, 11), outputs=outputs),
        Row(f"split {name} input", "Split", {"x": x}, given, attrs, (13, 18), outputs=outputs),
    ]


ROWS = [
    Row("reshape", "Reshape", X, {"s": ints(4, 6)}, {}, (7, 13, 14, 19, 21)),
    Row("reshape rest", "Reshape", X, {"s": ints(0, -1)}),
    Row("reshape to a scalar", "Reshape", {"x": (1, 1)}, {"s": ints()}),
    Row("reshape allowzero", "Reshape", {"x": (2, 3)}, {"s": ints(3, 2)}, {"allowzero": 1},
        (14, 21)),
    Row("flatten", "Flatten", X),
    Row("flatten 0", "Flatten", X, {}, {"axis": 0}, (9, 21)),
    Row("flatten end", "Flatten", X, {}, {"axis": 3}, (9, 21)),
    Row("flatten negative", "Flatten", X, {}, {"axis": -1}, (11, 21)),
    Row("transpose", "Transpose", X, {}, {"perm": [1, 2, 0]}),
    Row("transpose default", "Transpose", X),
    Row("identity", "Identity", X, {}, {}, (7, 13, 14, 16, 19, 21)),
    Row("squeeze all", "Squeeze", {"x": (1, 2, 1)}),
    Row("squeeze", "Squeeze", {"x": (1, 2, 1)}, {}, {"axes": [0]}, (7, 11)),
    Row("squeeze input", "Squeeze", {"x": (1, 2, 1)}, {"a": ints(-1)}, {}, (13, 21)),
    Row("unsqueeze", "Unsqueeze", {"x": (2, 3)}, {}, {"axes": [0, 3]}, (7, 11)),
    Row("unsqueeze input", "Unsqueeze", {"x": (2, 3)}, {"a": ints(-1, 1)}, {}, (13, 21)),
    Row("depth to space", "DepthToSpace", IMAGE, {}, {"blocksize": 2}, (7, 11, 13)),
    Row("depth to space CRD", "DepthToSpace", IMAGE, {}, {"blocksize": 2, "mode": "CRD"}, (11, 13)),
    Row("space to depth", "SpaceToDepth", {"x": (1, 2, 4, 6)}, {}, {"blocksize": 2}, (7, 13)),
    Row("space to depth crd", "SpaceToDepth", {"x": (1, 2, 4, 6)}, {},
        {"blocksize": 2, "mode": "CRD"}, (28,), reference=True),
    Row("space to depth dcr", "SpaceToDepth", {"x": (1, 2, 4, 6)}, {},
        {"blocksize": 2, "mode": "DCR"}, (28,), reference=True),
    Row("concat", "Concat", {"a": (2, 3), "b": (2, 1)}, {"w": weights(2, 2)}, {"axis": 1}),
    Row("concat negative", "Concat", {"a": (2, 3), "b": (2, 1)}, {}, {"axis": -1}, (11, 13)),
    Row("concat one", "Concat", {"a": (2, 3)}, {}, {"axis": 0}),
    *split("equal", 2, (4, 3)),
    *split("one", 1, (4, 3)),
    *split("axis", 3, (2, 6), axis=1),
    *split("sizes", 3, (2, 6), [1, 3, 2], axis=1),
    Row("split uneven", "Split", {"x": (7,)}, {}, {"num_outputs": 3}, (18,), outputs=(FLOAT,) * 3),
    *sliced("all axes", [0, 1, 2], [4, 3, 5]),
    *sliced("some axes", [1, 0], [3, 2], [2, 0]),
    *sliced("negative", [-3], [-1], [1]),
    *sliced("beyond the end", [1], [1000], [1]),
    *sliced("step", [0], [6], [2], [2]),
    *sliced("negative step", [4, -1], [0, -100], [1, 2], [-2, -1]),
    *padded("all", (2, 3), [1, 0, 0, 2], "constant"),
    *padded("nothing", (2, 3), [0, 0, 0, 0], "constant"),
    *padded("cropping", (4, 5), [-1, 1, -1, -2], "constant"),
    *padded("all", (3, 4), [1, 2, 2, 3], "reflect"),
    *padded("all", (3, 4), [1, 2, 2, 3], "edge"),
    *padded("all", (3, 4), [1, 2, 2, 3], "wrap", (19, 21)),
    Row("pad attribute value", "Pad", {"x": (2, 3)}, {}, {"pads": [1, 0, 0, 2], "value": 1.5},
        (7, 10)),
    Row("pad value", "Pad", {"x": (2, 3)}, {"p": ints(0, 1, 0, 1), "v": np.float32(-3.5)}, {},
        (11, 21), disclosed=1),
    Row("pad axes", "Pad", X, {"p": ints(1, 2, 0, 1), "v": np.float32(0), "a": ints(-1, 1)}, {},
        (18, 21), disclosed=1),
    Row("pad reflected axes", "Pad", X, {"p": ints(1, 2), "a": ints(-1)}, {"mode": "reflect"},
        (18, 21), ("x", "p", "", "a")),
    Row("center crop pad", "CenterCropPad", {"x": (5, 4)}, {"s": ints(2, 7)}, {}, (18,),
        reference=True),
    Row("center crop pad axes", "CenterCropPad", X, {"s": ints(6)}, {"axes": [-1]}, (18,),
        reference=True),
    Row("expand", "Expand", {"x": (3, 1)}, {"s": ints(2, 1, 4)}, {}, (8, 13)),
    Row("expand nothing", "Expand", {"x": (3, 4)}, {"s": ints(1)}, {}, (8, 13)),
    Row("tile", "Tile", X, {"r": ints(2, 1, 3)}),
    Row("tile once", "Tile", X, {"r": ints(1, 1, 1)}),
    Row("eye added", "Add", {"x": (3, 3)}, {"e": np.eye(3, dtype=np.float32)}),
    Row("expand scalar", "Expand", {"x": ()}, {"s": ints(2, 2)}, {}, (8, 13)),
    Row("concat scalars", "Concat", {"a": (1,)}, {"b": floats(2.0)}, {"axis": 0}),
]  # fmt: skip
