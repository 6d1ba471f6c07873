"""Which TensorFlow operators can be imported, and of the others: why not, what to do instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mpcc.frontend.tensorflow import control, elementwise, layers, structure
from mpcc.frontend.tensorflow.node import Node, Operator

__all__ = ["OPERATORS", "WRITES", "Reason", "reason"]


def _constant(node: Node) -> None:
    """A Const, which the walker takes itself."""


@dataclass(frozen=True)
class Reason:
    """Why an operator is not supported, and the way out."""

    why: str
    fix: str


OPERATORS: Mapping[str, Operator] = {
    **control.OPERATORS,
    **elementwise.OPERATORS,
    **layers.OPERATORS,
    **structure.OPERATORS,
    "Const": Operator(_constant),  # type: ignore[arg-type]
}
"""Every operator that can be imported: name -> how. Constants of any operator without state are
computed by TensorFlow."""

WRITES = frozenset(
    (
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "ResourceScatterAdd",
        "ResourceScatterNdUpdate",
        "ResourceScatterUpdate",
    )
)
"""Operators that change a variable, so that the next run would give something else."""

_SIMPLIFY = "save the model with a signature that does not need it"

_REASONS: tuple[tuple[str, Reason], ...] = (
    (
        r"Assign\w*|ResourceScatter\w*",
        Reason(
            "it changes a variable, which programs do not have",
            "save the model for inference; hand state on as an input and an output",
        ),
    ),
    (
        r"(Resource|Sparse)?Apply\w*|\w+Grad(V2|WithArgmax)?|\w*BackpropFilter\w*"
        r"|\w*SoftmaxCrossEntropyWithLogits",
        Reason("it is of training only", "save the model for inference"),
    ),
    (
        r"(Stateless|Parameterized)?(Random|Truncated)\w+|Multinomial|StatelessMultinomial"
        r"|StatefulUniform\w*|StatefulStandardNormal\w*|RngReadAndSkip|RngSkip",
        Reason(
            "it draws random numbers",
            "save the model for inference (training=False), or give the numbers as an input",
        ),
    ),
    (
        r"\w*String\w*|Regex\w+|StaticRegex\w+|Decode\w+|Encode\w+|ParseExample\w*"
        r"|ParseSingleExample|AsString|ReadFile|WriteFile|Unicode\w+|Substr",
        Reason("only numbers can be shared, no text", "do this step at the input's owner"),
    ),
    (
        r"\w*HashTable\w*|LookupTable\w+|\w*Dataset\w*|Iterator\w+",
        Reason(
            "tables and data sets are no part of a program", "do this step at the input's owner"
        ),
    ),
    (
        r"NonMaxSuppression\w*|CombinedNonMaxSuppression|Where|Unique\w*|BooleanMask|SparseTo\w+"
        r"|Ragged\w+",
        Reason(
            "the shape of its result depends on secret data, and would tell about it",
            "end the model before it, and go on at the answer's owner",
        ),
    ),
    (
        r"Switch|Merge|RefSwitch|RefMerge|Enter|RefEnter|Exit|NextIteration|LoopCond"
        r"|TensorArray\w+|VariableV2|Variable|VarHandleOp",
        Reason(
            "control flow and variables of TensorFlow 1",
            "load the model in TensorFlow 2 and save it again",
        ),
    ),
    (
        r"Quantize\w*|Dequantize|Quantized\w+|Requantize\w*|FakeQuant\w+|UniformQuant\w+",
        Reason("quantised numbers are not supported", "save the model before quantisation"),
    ),
    (
        r"PyFunc\w*|EagerPyFunc|XlaCallModule|XlaLaunch|\w*Tpu\w*|TPU\w+",
        Reason(
            "it runs code that is not in the graph",
            "save the model as operators of TensorFlow (in JAX: native_serialization=False)",
        ),
    ),
    (r"Placeholder", Reason("an argument without a value", "save the model again")),
)


def reason(op: str) -> Reason:
    """Why an operator is not supported."""
    for pattern, found in _REASONS:
        if re.fullmatch(pattern, op):
            return found
    return Reason("the operator is not supported", _SIMPLIFY)
