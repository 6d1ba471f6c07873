"""Every native kernel against the numpy reference of its op, bit for bit, in every variant."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcc import _native
from mpcc.emit.graphdef import emit
from mpcc.ir.core import Module
from mpcc.ir.interp.party import aes_ctr
from mpcc.ir.ops.party import DIALECT, PartyOperation
from mpcc.ir.types import BitsType, ClearType, RingType, Shape

SIZES = (1, 7, 8, 9, 31, 32, 33, 255, 511, 512, 513, 1024, 4096 + 3)
VARIANTS = _native.cpu_info()["block_variants"]
KEY = bytes(range(16))


def source(module, type_, index):
    """An op whose result has the given type; its own computation plays no role."""
    match type_:
        case RingType():
            kind, attrs = "draw_ring", {"shape": type_.shape, "ring": type_.ring}
        case BitsType():
            kind, attrs = "draw_bits", {"lanes": type_.lanes, "planes": type_.planes}
        case ClearType():
            attrs = {"name": f"x{index}", "shape": type_.shape, "place": "client"}
            return module.main.append(DIALECT.operations["party.input"], (), attrs).result
    return module.main.append(
        DIALECT.operations[f"party.{kind}"],
        (),
        {"key": "P0+client", "stream": index, "place": type_.place, **attrs},
    ).result


def values(type_, rng):
    """Random content of a type; edge words among ring values."""
    match type_:
        case RingType():
            dtype = np.uint64 if type_.ring == 64 else np.uint32
            x = rng.integers(0, 2**type_.ring, type_.shape, dtype)
            if x.size > 4:
                edges = [0, 1, 2**type_.ring - 1, 2 ** (type_.ring - 1)]
                x.reshape(-1)[:4] = np.array(edges, dtype)
            return x
        case BitsType():
            return rng.integers(0, 256, type_.nbytes, np.uint8)
    return rng.uniform(-7, 7, type_.shape).astype(np.float32)


def check(name, types, attrs=None, *, variants=VARIANTS, threads=(1,), seed=0):
    """One op on random operands, by the engine's kernel and by ``evaluate``."""
    module = Module("party")
    operands = [source(module, t, i) for i, t in enumerate(types)]
    op = module.main.append(DIALECT.operations[f"party.{name}"], operands, attrs or {})
    result = op.result.type
    assert isinstance(result, RingType | BitsType | ClearType)
    assert issubclass(op.definition, PartyOperation)
    data = emit(module)
    rng = np.random.default_rng(seed)
    arrays = [values(t, rng) for t in types]
    if name.startswith("draw"):
        wide = aes_ctr(KEY, op.attrs["stream"], result.nbytes)
        expected = wide.tobytes()
    else:
        with np.errstate(over="ignore"):
            expected = np.ascontiguousarray(
                op.definition.evaluate(op.attrs, types, result, *arrays)
            ).tobytes()
    for variant in variants:
        for count in threads:
            (found,) = _native.evaluate_op(
                data,
                len(operands),
                [a.tobytes() for a in arrays],
                {"P0+client": KEY, "P0+P1": KEY},
                isa=variant,
                threads=count,
            )
            assert found == expected, f"{name} {types} {attrs} by {variant}, {count} threads"


def ring(n, bits=64):
    return RingType((n,), bits, "P0")


def bits(n, planes):
    return BitsType(n, planes, "P0")


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("word", [64, 32])
def test_ring_ops(n, word):
    x = ring(n, word)
    for name in ("add", "sub", "mul"):
        check(name, [x, x])
    for pairs in (2, 3, 4):
        check("mul", [x, x] * pairs)
    check("neg", [x])
    for value in (0, -1, 2 ** (word - 1) - 1, -(2 ** (word - 1)), 12345):
        check("add_const", [x], {"value": value})
        check("mul_const", [x], {"value": value})
    for amount in (0, 1, 13, word - 1):
        check("shift_left", [x], {"amount": amount})
        check("shift_right", [x], {"amount": amount})
    for count in (0, 1, 16, word):
        check("low_bits", [x], {"count": count})
    for other in (32, 64):
        check("cast", [x], {"ring": other})


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("word", [64, 32])
def test_ring_with_bits(n, word):
    for name in ("mask_by", "negate_if"):
        check(name, [bits(n, 1), ring(n, word)])
    for planes, shift in ((1, 0), (1, word - 1), (4, 3), (8, 8), (17, 2), (word, 0)):
        check("bit_slice", [ring(n, word)], {"planes": planes, "shift": shift})
        check("from_bits", [bits(n, planes)], {"shape": (n,), "ring": word})


@pytest.mark.parametrize("n", SIZES)
def test_bits(n):
    for planes in (1, 5, 24):
        for name in ("xor", "and"):
            check(name, [bits(n, planes)] * 2)
        check("not", [bits(n, planes)])
    check("planes", [bits(n, 7)], {"indices": (6, 0, 3)})
    check("join", [bits(n, 2), bits(n, 1), bits(n, 9)])
    for blocks in ((1,), (4,), (4, 4, 4, 4), (4, 4, 4, 3), (2, 6, 5, 1)):
        index, tables = sum(blocks), sum((2 if i else 1) << b for i, b in enumerate(blocks))
        check("carry_tables", [bits(n, index)] * 2, {"blocks": blocks})
        check("lookup", [bits(n, tables), bits(n, index)], {"blocks": blocks})
    terms = (((0,), (1, 2), (3, 4, 5)), ((5,),), ((0, 1, 2, 3, 4, 5), (2,)))
    check("anf", [bits(n, 6)], {"terms": terms})


@pytest.mark.parametrize("n", SIZES)
def test_draws(n):
    draw = {"key": "P0+P1", "stream": 2**40 + 3, "place": "P0"}
    check("draw_ring", [], {**draw, "shape": (n,)})
    check("draw_ring", [], {**draw, "shape": (n,), "ring": 32})
    for planes in (1, 3, 112):
        check("draw_bits", [], {**draw, "lanes": n, "planes": planes})


def test_draws_of_the_bit_sliced_aes():
    """The variant is chosen once per process, so the forced one needs a process of its own."""
    script = (
        "from mpcc import _native; assert _native.cpu_info()['prg'] == 'bitslice'\n"
        "from tests.runtime.test_native_kernels import SIZES, test_draws\n"
        "for n in SIZES: test_draws(n)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MPCC_ISA": "scalar"},
        cwd=Path(__file__).parents[2],
        check=True,
    )


def test_blocks_and_threads_do_not_show():
    n = 3 * 4096 + 17
    draw = {"key": "P0+P1", "stream": 1, "place": "P0", "lanes": n, "planes": 13}
    both = (1, 2)
    check("carry_tables", [bits(n, 16)] * 2, {"blocks": (4, 4, 4, 4)}, threads=both)
    check("bit_slice", [ring(n)], {"planes": 20, "shift": 7}, threads=both)
    check("draw_bits", [], draw, threads=both)


@pytest.mark.parametrize("n", [1, 7, 513])
@pytest.mark.parametrize("word", [64, 32])
def test_owner_ops(n, word):
    x = ClearType((n,), "client")
    check("encode", [x], {"frac": 19, "lo": -8.0, "hi": 8.0, "ring": word})
    for frac in (0, 8, 19, 40):
        check("decode", [RingType((n,), word, "client")], {"frac": frac})


def test_encode_rounds_half_to_even_and_refuses_what_is_out_of_range():
    module = Module("party")
    x = source(module, ClearType((4,), "client"), 0)
    module.main.append(
        DIALECT.operations["party.encode"], [x], {"frac": 1, "lo": -1.0, "hi": 1.0, "ring": 64}
    )
    data = emit(module)
    x = np.array([0.25, 0.75, -0.25, -0.75], np.float32)
    for variant in VARIANTS:
        (found,) = _native.evaluate_op(data, 1, [x.tobytes()], {}, isa=variant)
        assert np.frombuffer(found, np.int64).tolist() == [0, 2, 0, -2]
        for bad in (1.0001, -2.0, np.nan, np.inf):
            wrong = np.array([0, 0, bad, 0], np.float32)
            with pytest.raises(_native.NativeError) as error:
                _native.evaluate_op(data, 1, [wrong.tobytes()], {}, isa=variant)
            assert error.value.args[0] == "E-input-range"
            assert str(bad) not in str(error.value)


@pytest.mark.parametrize("word", [64, 32])
def test_structural(word):
    def x(*shape):
        return RingType(shape, word, "P0")

    one = VARIANTS[:1]
    check("reshape", [x(3, 4)], {"shape": (2, 6)}, variants=one)
    for shape, perm in (
        ((5,), (0,)), ((3, 70), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((2, 1, 33, 17), (0, 2, 3, 1)),
        ((1, 24, 16, 16), (0, 2, 3, 1)),
    ):  # fmt: skip
        check("transpose", [x(*shape)], {"perm": perm}, variants=one, threads=(1, 2))
    check("broadcast", [x(1, 3)], {"shape": (2, 4, 3), "dims": (1, 2)}, variants=one)
    check("broadcast", [x()], {"shape": (2, 2), "dims": ()}, variants=one)
    check("broadcast", [x(5)], {"shape": (1, 5, 7, 7), "dims": (1,)}, variants=one)
    check("pad", [x(2, 3)], {"low": (0, 1), "high": (2, 0), "value": -7}, variants=one)
    check("pad", [x(1, 0, 3)], {"low": (0, 1, 0), "high": (0, 0, 2), "value": 5}, variants=one)
    check("slice", [x(4, 9)], {"starts": (1, 0), "limits": (4, 9), "strides": (1, 2)},
          variants=one)  # fmt: skip
    check("slice", [x(4, 9)], {"starts": (1, 3), "limits": (2, 3), "strides": (7, 1)},
          variants=one)  # fmt: skip
    for shape, axis, indices in (
        ((5,), 0, (4, 0, 1, 2, 2)), ((3, 40, 7), 1, tuple(range(39, -1, -1))),
        ((4, 3), 0, (1, 2, 3)), ((2, 3, 400), 1, (2, 2, 0)), ((2, 3), 1, ()),
        ((2, 900), 1, tuple(range(1, 900, 2))),
        ((0, 3), 1, (1,)), ((3, 0), 0, (2, 2)),
    ):  # fmt: skip
        check("gather", [x(*shape)], {"axis": axis, "indices": indices}, variants=one,
              threads=(1, 2))  # fmt: skip
    check("concat", [x(2, 1), x(2, 3), x(2, 2)], {"axis": 1}, variants=one)
    check("concat", [x(2, 3), x(1, 3)], {"axis": 0}, variants=one)


@pytest.mark.parametrize("word", [64, 32])
def test_sums_over_axes(word):
    one = VARIANTS[:1]
    for shape, axes in (
        ((), ()), ((7,), (0,)), ((7,), ()), ((3, 5000), (0,)), ((5000, 3), (0,)), ((300, 90), (1,)),
        ((2, 3, 4, 5), (1, 3)), ((2, 3, 4, 5), (0, 2)), ((2, 3, 4, 5), (0, 1, 2, 3)),
        ((6, 1, 5, 1, 4), (1, 2)), ((6, 1, 5, 1, 4), (0, 3)), ((3, 0, 2), (1,)), ((0, 2), (1,)),
        ((2, 3, 2, 3, 2, 3, 2, 3), (0, 2, 4, 6)), ((2, 3, 2, 3, 2, 3, 2, 3), (1, 3, 5, 7)),
    ):  # fmt: skip
        x = RingType(shape, word, "P0")
        check("reduce_sum", [x], {"axes": axes}, variants=one, threads=(1, 2))


@pytest.mark.parametrize("word", [64, 32])
@pytest.mark.parametrize("to", [64, 32])
def test_harmonics(word, to):
    """Both ops over sizes around a block, periods around 32 bits, and extremes of attributes."""
    for shape in ((), (1,), (31,), (32,), (33,), (5, 13), (0, 3), (700,)):
        for period, multiplier, precision, first, rows in (
            (32, 1, 30, 0, 1), (word, -(2**31) + 1, 1, 255, 1), (20, 3, 17, 3, 8),
            (1, 2, 12, 0, 256),
        ):  # fmt: skip
            attrs = {"period": period, "multiplier": multiplier, "precision": precision}
            x = RingType(shape, word, "P0")
            own = {"first": first, "rows": rows, "ring": to}
            check("harmonics", [x], {**attrs, **own}, threads=(1, 2))
    for shape in ((), (1,), (31,), (32,), (33,), (5, 13), (0, 3), (700,)):
        for period, precision, frac, count in ((word, 30, 31, 3), (20, 12, 0, 128), (31, 1, 33, 1)):
            most = min(1 << (30 + frac - precision), 2**31 - 1)
            cos = tuple((most, most // 2, 0, -most, 1 - most)[k % 5] for k in range(count))
            sin = tuple((0, -(most // 2), most, 0, -1)[k % 5] for k in range(count))
            series = {"cos": cos, "sin": sin, "coefficient_frac": frac}
            angle = {"period": period, "multiplier": 7, "precision": precision}
            x = RingType(shape, word, "P0")
            ms = [RingType((n, *shape), to, "P0") for n in (1, 2 * count - 1)]
            check("fourier", [x, *ms], {**series, **angle}, threads=(1, 2))


@pytest.mark.parametrize("word", [64, 32])
def test_stacked_products(word):
    one = VARIANTS[:1]
    for left, right in (
        ((70, 4, 5), (70, 5, 6)), ((2, 3, 1, 7), (2, 3, 7, 9)), ((5, 9, 4), (5, 4, 1)),
        ((3, 66, 65), (3, 65, 67)), ((2, 3, 4, 5), (5, 6)), ((4, 1, 5), (5, 3)),
        ((1, 9, 8), (1, 8, 7)), ((2, 90, 80), (2, 80, 70)),
        ((0, 2, 3), (0, 3, 4)), ((2, 3, 0), (2, 0, 4)), ((2, 0, 3), (3, 4)),
    ):  # fmt: skip
        for pairs in (1, 2):
            types = [RingType(left, word, "P0"), RingType(right, word, "P0")] * pairs
            check("matmul", types, variants=one, threads=(1, 2))


@pytest.mark.parametrize("word", [64, 32])
def test_linear(word):
    def x(*shape):
        return RingType(shape, word, "P0")

    one = VARIANTS[:1]
    for m, k, n in ((1, 1, 1), (1, 784, 128), (5, 33, 9), (3, 0, 2), (64, 64, 64)):
        for pairs in (1, 2):
            check("matmul", [x(m, k), x(k, n)] * pairs, variants=one)
    conv = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    cases: list[tuple[Shape, Shape, dict[str, Any]]] = [
        ((1, 3, 9, 8), (4, 3, 3, 3), {"pads": (1, 0, 2, 1)}),
        ((2, 4, 8, 8), (6, 2, 2, 3), {"groups": 2, "strides": (2, 1)}),
        ((1, 8, 11, 7), (8, 1, 3, 3), {"groups": 8, "pads": (1, 1, 1, 1)}),
        ((1, 5, 6, 6), (7, 5, 1, 1), {}),
        ((1, 2, 9, 9), (3, 2, 3, 3), {"dilations": (2, 2)}),
    ]
    for data, weights, changes in cases:
        for pairs in (1, 2):
            check("conv", [x(*data), x(*weights)] * pairs, {**conv, **changes}, variants=one)
    line = {"strides": (2,), "pads": (1, 0), "dilations": (1,), "groups": 1}
    check("conv", [x(1, 3, 10), x(2, 3, 3)], line, variants=one)
    cube = {"strides": (1, 1, 1), "pads": (0,) * 6, "dilations": (1, 1, 1), "groups": 1}
    check("conv", [x(1, 2, 3, 4, 3), x(2, 2, 2, 2, 2)], cube, variants=one)


def test_all_ops_with_a_kernel_are_covered():
    """The lists above name every op that computes."""
    text = Path(__file__).read_text()
    # A call has no kernel of its own: readers write it out (tests/e2e/test_calls.py).
    own = {"input", "weight", "output", "transfer", "fused", "call"}
    missing = [
        name
        for name in (full.removeprefix("party.") for full in DIALECT.operations)
        if name not in own and f'"{name}"' not in text
    ]
    assert not missing
