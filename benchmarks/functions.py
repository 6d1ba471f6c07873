"""Smooth functions: harmonics, bytes, rounds and errors, for docs/numbers.md.

``python -m benchmarks.functions`` prints the tables. Bytes are counted over the program of one
function, per element, over all links, for many inputs below 2^8, which need both cuts.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
from numpy.polynomial.chebyshev import Chebyshev

from mpcc import accuracy
from mpcc import cost as costs
from mpcc.approximations import FUNCTIONS, tail_series
from mpcc.ir import elementary
from mpcc.ir.core import Module
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import FormatOptions
from mpcc.passes.declared_formats import declared_phi
from mpcc.passes.lower_tensor_to_secure import build_secure
from mpcc.protocols import lower_program, protocol_named

__all__ = ["main"]

_COUNT = 3 << 14
_FRACTIONS = (8, 12, 16, 20)
_TENSOR = {
    "sigmoid": (tensor.Sigmoid, {}),
    "tanh": (tensor.Tanh, {}),
    "erf": (tensor.Erf, {}),
    "gelu": (tensor.Gelu, {"approximate": "none"}),
    "softplus": (tensor.Softplus, {}),
    "silu": (tensor.Silu, {}),
    "mish": (tensor.Mish, {}),
    "exp": (tensor.Exp, {}),
    "sin": (tensor.Sin, {}),
}


def _counted(name: str, frac: int) -> tuple[int, float, int]:
    """Harmonics, bytes per element, rounds of the function alone."""
    definition, attrs = _TENSOR[name]
    module = Module("tensor")
    source = {"name": "x", "shape": (_COUNT,), "owner": "client"}
    x = module.main.append(tensor.Input, [], source, "x").result
    y = module.main.append(definition, [x], dict(attrs), "f").result
    module.main.append(tensor.Output, [y], {"name": "y", "owner": "client"}, "y")
    hi = 0.0 if name == "exp" else 255.0
    options = FormatOptions(
        disclose="none", fraction_bits=frac, value_range=256.0, input_ranges={"x": (-255.0, hi)}
    )
    made = build_secure(module, declared_phi(module, options), options)
    (series,) = made.main.walk(secure.Fourier.name)
    party = lower_program(made, protocol_named("rep3")).party
    (own,) = (layer.online for layer in costs.count(party).layers if layer.name == "f")
    return len(series.attrs["cos"]), own.total_bytes / _COUNT, own.rounds


def _pieces(degree: int, error: float, lo: float, hi: float) -> int:
    """Chebyshev interpolants of gelu that cover an interval, each as long as it may be."""
    count = 0
    while lo < hi - 2.0**-20:
        short, long = 0.0, hi - lo
        for width in (long, *[0.0] * 30):
            tried = width or (short + long) / 2
            fit = Chebyshev.interpolate(elementary.gelu, degree, [lo, lo + tried])
            x = np.linspace(lo, lo + tried, 400)
            if np.abs(fit(x) - elementary.gelu(x)).max() <= error:
                short = tried
            else:
                long = tried
            if short == long:
                break
        lo, count = lo + short, count + 1
    return count


def _polynomials(width: int = 20) -> str:
    """What the cheapest piecewise polynomials would cost, see docs/numbers.md."""
    end = tail_series("gelu", 2.0**-17).hi
    found = []
    for degree in range(2, 9):
        pieces = _pieces(degree, 2.0**-17, -end, end)
        nbytes = (pieces - 1) * (0.7 * width + 32) + 54 * degree
        found.append((nbytes, 4 + 3 * degree, degree, pieces))
    nbytes, rounds, degree, pieces = min(found)
    return (
        f"gelu by {pieces} polynomials of degree {degree}: {nbytes:.0f} bytes, {rounds} rounds "
        "at 16 fraction bits"
    )


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Print the tables as Markdown."""
    lines = [_row(["function", *(f"{f} bits: K, bytes" for f in _FRACTIONS), "rounds"])]
    lines.append("|---" * (len(_FRACTIONS) + 2) + "|")
    for name in _TENSOR:
        found = [_counted(name, frac) for frac in _FRACTIONS]
        rounds = "/".join(map(str, sorted({r for *_, r in found})))
        lines.append(_row([name, *(f"{k}, {b:.0f}" for k, b, _ in found), rounds]))
    lines += [
        "",
        _row(["function", "interval at 2^-16", "proved", "measured"]),
        "|---|---|---|---|",
    ]
    names = {definition: name for name, (definition, _) in _TENSOR.items()}
    for definition, attrs, lo, hi in accuracy.FUNCTIONS.values():
        if definition not in names:
            continue
        name, error = names.pop(definition), accuracy.accuracy(definition, attrs, lo, hi)
        has_tails = name in FUNCTIONS and FUNCTIONS[name].tails is not None
        end = f"{tail_series(name, 2.0**-17).hi:g}" if has_tails else ""
        units = (e * math.ldexp(1.0, accuracy.FRACTION) for e in (error.proved, error.measured))
        lines.append(_row([name, end, *(f"{u:.2f}" for u in units)]))
    lines += ["", _polynomials()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
