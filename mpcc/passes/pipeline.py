"""The order of the compiler's passes, as literal lists.

import · find patterns (at the owner) · :func:`to_tensor` · :func:`to_owners` · analyse ·
``PUBLISH`` · :func:`to_secure` · :func:`to_party` · emit
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpcc.ir.core import Module
from mpcc.ir.phi import FormatOptions, Phi
from mpcc.passes.base import Pass
from mpcc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from mpcc.passes.eliminate_dead_code import EliminateDeadCode
from mpcc.passes.fold_affine import FoldAffine
from mpcc.passes.fold_constants import FoldConstants
from mpcc.passes.fold_pads import FoldPads
from mpcc.passes.fold_transposes import FoldTransposes
from mpcc.passes.fuse_local import FuseLocal
from mpcc.passes.inline_calls import InlineCalls
from mpcc.passes.lower_secure_to_party import LowerSecureToParty
from mpcc.passes.lower_tensor_to_secure import LowerTensorToSecure
from mpcc.passes.partition_owners import PartitionOwners
from mpcc.passes.recognise import Recognise
from mpcc.passes.relu_of_maximum import ReluOfMaximum
from mpcc.passes.reveal_logits import RevealLogits
from mpcc.passes.split_lanes import SplitLanes
from mpcc.passes.strip_names import StripNames
from mpcc.passes.swap_relu_maxpool import SwapReluMaxpool

__all__ = [
    "IMPORT",
    "PUBLISH",
    "STAGES",
    "TENSOR",
    "to_owners",
    "to_party",
    "to_secure",
    "to_tensor",
]

IMPORT = "import"
"""Name of the stage before the first pass."""

TENSOR: Sequence[Pass] = (
    InlineCalls(),
    EliminateDeadCode(),
    FoldTransposes(),
    FoldPads(),
    EliminateCommonSubexpressions(),
    FoldAffine(),
    FoldConstants(),
    SwapReluMaxpool(),
)
"""What needs nothing but the architecture, before ranges and formats are chosen."""

PUBLISH: Sequence[Pass] = (StripNames(),)
"""After the analysis, whose messages and private report speak of the model's own names."""


def to_tensor(patterns: Sequence[tuple[int, int, int]]) -> Sequence[Pass]:
    """On the imported model; ``patterns`` are those of Phi."""
    return (Recognise(tuple(patterns)), *TENSOR)


def to_owners(logits: bool, local: bool) -> Sequence[Pass]:
    """What owners of outputs, and those of inputs, compute themselves, where it is wanted."""
    return (RevealLogits(wanted=logits), PartitionOwners(wanted=local))


def to_secure(phi: Phi, options: FormatOptions) -> Sequence[Pass]:
    """From the tensor level to fixed point, in formats that the analysis chose."""
    far = options.round_bytes or 0
    return (LowerTensorToSecure(phi, options), ReluOfMaximum(far), SplitLanes(far))


def to_party(lower: Callable[[Module], Module]) -> Sequence[Pass]:
    """From fixed point to the program that is emitted; ``lower`` brings the protocol."""
    return (LowerSecureToParty(lower), FuseLocal())


STAGES: Sequence[str] = (
    IMPORT,
    Recognise.name,
    *(p.name for p in (*TENSOR, *to_owners(True, True), *PUBLISH)),
    *(
        p.name
        for p in (LowerTensorToSecure, ReluOfMaximum, SplitLanes, LowerSecureToParty, FuseLocal)
    ),
)
"""Everything that leaves a module, so that it can be dumped, in order."""
