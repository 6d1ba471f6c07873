"""lower-tensor-to-secure: real-valued ops become fixed-point ops in the formats of Phi.

Assumes: a tensor module whose ops all have a secure form, and the Phi that the analysis made for
this module. Sees the architecture, Phi and the options, never a value: the same text comes out
whatever the weights are.

Before::

    %2 = tensor.conv(%0, %1, %b) : tensor<1x8x4x4xf32, secret>
    %3 = tensor.relu(%2) : tensor<1x8x4x4xf32, secret>

With 19 fraction bits each and |x| < 2^12. After::

    %3 = secure.conv(%0, %1) {width = 50} : secure<1x8x4x4, z64, f38, k50, secret>
    %4 = secure.broadcast(%b) ...
    %5 = secure.add(%3, %4) {width = 50} : secure<1x8x4x4, z64, f38, k50, secret>
    %6 = secure.truncate(%5) {amount = 19, width = 31} : secure<1x8x4x4, z64, f19, k31, secret>
    %7 = secure.negative(%6) : bit<1x8x4x4, secret>
    %8 = secure.select(%7, %6) {invert = true, width = 31} : ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mpcc.errors import Diagnostic, MpccError, collect
from mpcc.ir.core import Module
from mpcc.ir.ops import secure
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.passes.base import Pass, Result
from mpcc.passes.lowerings import RULES, Lowering, Rules

__all__ = ["LowerTensorToSecure", "build_secure", "encode_weights", "range_bits"]

Array = npt.NDArray[Any]


def range_bits(magnitude: float) -> int:
    """Smallest b with magnitude < 2^b; far below any format for zero."""
    return math.frexp(magnitude)[1] if magnitude > 0 else -64


def build_secure(
    module: Module, phi: Phi, options: FormatOptions | None = None, rules: Rules = RULES
) -> Module:
    """The secure module of a tensor module.

    Args:
        module: a verified tensor module.
        phi: formats from :func:`mpcc.passes.analyse.analyse` for this module.
        options: the options that the analysis had.
        rules: what each operator becomes.

    Raises:
        MpccError: an operator has no secure form, Phi does not belong to this module, or it does
            not fit the ring.
    """
    if module.level != "tensor":
        raise MpccError.of("E-lower-level", f"a tensor module is needed, not {module.level}")
    return Lowering(module, phi, options or FormatOptions(), rules).run()


@dataclass(frozen=True)
class LowerTensorToSecure(Pass):
    """The secure module of a tensor module, which stays as it is.

    Attributes:
        phi: formats of this module.
        options: the options that the analysis had.
    """

    name: ClassVar[str] = "lower-tensor-to-secure"
    level: ClassVar[str] = "tensor"
    phi: Phi
    options: FormatOptions = field(default_factory=FormatOptions)

    def run(self, module: Module) -> Result:
        """Lower; Phi that belongs to another module is refused."""
        return Result(build_secure(module, self.phi, self.options), True)


def encode_weights(constants: Mapping[str, Array], module: Module) -> dict[str, Array]:
    """Raw signed words of all ``secure.weight`` ops, by name; runs at the model owner.

    Args:
        constants: real arrays by the names that the tensor module uses.
        module: the secure module.

    Raises:
        MpccError: a constant is missing, has another shape, or does not fit its format.
    """
    problems: list[Diagnostic] = []
    raw: dict[str, Array] = {}
    for op in module.main.walk(secure.Weight.name):
        name, attrs = op.attrs["name"], op.attrs
        source = name if name in constants else name.rpartition(":f")[0]
        if source not in constants:
            problems.append(Diagnostic("E-weights-missing", f"no constant {name}"))
            continue
        array = np.asarray(constants[source], np.float64)
        if array.shape != attrs["shape"]:
            problems.append(
                Diagnostic("E-weights-shape", f"{source} is {array.shape}, not {attrs['shape']}")
            )
            continue
        limit = 2.0 ** attrs["width"]
        scaled = np.rint(np.ldexp(array, attrs["frac"]))
        if not bool(np.all(np.abs(scaled) < limit)):
            problems.append(
                Diagnostic(
                    "E-weights-range",
                    f"{source} does not fit its format",
                    fix="compile again: these are other weights than the ones analysed",
                )
            )
            continue
        raw[name] = scaled.astype(np.int64 if attrs["ring"] == 64 else np.int32)
    collect(problems)
    return raw
