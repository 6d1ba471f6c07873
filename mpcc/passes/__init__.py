"""Compiler passes, one file each, by name."""

from __future__ import annotations

from collections.abc import Mapping

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

__all__ = ["PASSES"]

_ALL: tuple[type[Pass], ...] = (
    EliminateDeadCode,
    EliminateCommonSubexpressions,
    FoldAffine,
    FoldConstants,
    FoldPads,
    FoldTransposes,
    FuseLocal,
    InlineCalls,
    LowerSecureToParty,
    LowerTensorToSecure,
    PartitionOwners,
    Recognise,
    ReluOfMaximum,
    RevealLogits,
    SplitLanes,
    StripNames,
    SwapReluMaxpool,
)

PASSES: Mapping[str, type[Pass]] = {p.name: p for p in _ALL}
"""Every pass by its name; the order of the compiler is in ``pipeline.py``."""
