"""Which ONNX operators can be imported, and of the others: why not, and what to do instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType

import onnx

from mpcc.frontend.onnx import (
    attention,
    compare,
    control,
    einsum,
    elementwise,
    functions,
    indexing,
    linear,
    ml,
    nn,
    normal,
    pool,
    quantised,
    recurrent,
    reduce,
    resize,
    structure,
)
from mpcc.frontend.onnx.fold import FOLDABLE
from mpcc.frontend.onnx.node import Operator

__all__ = ["ML_OPERATORS", "OPERATORS", "Reason", "Support", "operator_of", "operators", "reason"]

_FAMILIES: Mapping[str, ModuleType] = {
    "elementwise": elementwise,
    "function": functions,
    "comparison": compare,
    "quotient and normalisation": normal,
    "layer": nn,
    "pooling": pool,
    "reduction": reduce,
    "matrix product": linear,
    "structure": structure,
    "indexing": indexing,
    "resampling": resize,
    "einsum": einsum,
    "recurrent": recurrent,
    "attention": attention,
    "control flow": control,
    "quantised": quantised,
}

OPERATORS: Mapping[str, Operator] = {
    name: operator for family in _FAMILIES.values() for name, operator in family.OPERATORS.items()
}
"""All operators of the default domain that can be imported."""

ML_OPERATORS: Mapping[str, Operator] = ml.OPERATORS
"""All operators of the domain ai.onnx.ml that can be imported."""

_ML = "ai.onnx.ml"

_FAMILY_OF = {name: family for family, m in _FAMILIES.items() for name in m.OPERATORS}


# --- what is not supported -----------------------------------------------------------------------


@dataclass(frozen=True)
class Reason:
    """Why operators are not supported on computed values.

    Attributes:
        family: what they have in common.
        why: the end of a sentence that starts with the operator.
        fix: the nearest way out.
    """

    family: str
    why: str
    fix: str


_REASONS: Mapping[str, Reason] = {
    "Compress NonMaxSuppression NonZero Unique": Reason(
        "data-dependent shape",
        "the shape of its result depends on secret data, and would tell about it",
        "end the model before it, and go on at the answer's owner",
    ),
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike": Reason(
        "random",
        "it draws random numbers",
        "give the numbers as a constant or as an input of the model",
    ),
    "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss": Reason(
        "training", "it is of training only", "export the model for inference"
    ),
    "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt "
    "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength "
    "SequenceMap SplitToSequence": Reason(
        "sequence",
        "only tensors can be shared, no sequences and no optional values",
        "export with plain tensors (Split, Concat)",
    ),
    "ImageDecoder RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer": Reason(
        "text and files",
        "only numbers can be shared",
        "do this step before, at the input's owner",
    ),
    "FlexAttention LinearAttention": Reason(
        "attention",
        "the operator is not supported",
        "export it as its parts: MatMul, Add, Mul and so on",
    ),
    "CausalConvWithState": Reason(
        "recurrent", "this layer is not supported", "write it as Concat and Conv"
    ),
    "BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor": Reason(
        "bits of integers",
        "secret values are real numbers without bits",
        "compute with numbers and truth values instead",
    ),
    "DFT STFT": Reason(
        "signal",
        "the operator is not supported",
        "write the transform as a product by a constant matrix",
    ),
    "AffineGrid Col2Im DeformConv GridSample MaxRoiPool MaxUnpool RoiAlign TensorScatter": Reason(
        "computed positions",
        "it reads or writes at computed positions, which would be public",
        "use Resize, Gather or ConvTranspose with constant positions",
    ),
    "CumProd Det Mod": Reason(
        "arithmetic",
        "the operator is not supported",
        "write it with Mul, Add and Floor, if there are few elements",
    ),
    "IsInf IsNaN": Reason(
        "finite numbers",
        "fixed-point numbers are always finite",
        "remove this step: its answer is always false",
    ),
}

_BY_NAME: Mapping[str, Reason] = {n: r for names, r in _REASONS.items() for n in names.split()}

_CONSTANT = Reason(
    "constant", "only its constant operands are supported", "compute it when exporting the model"
)

_DOMAINS: Mapping[str, Reason] = {
    "ai.onnx.ml": Reason(
        "classical learning",
        "the operator is not supported",
        "`mpcc ops` lists what is supported; export with operators of the default domain",
    ),
    "ai.onnx.preview": Reason(
        "attention",
        "the operator is not supported",
        "export it as its parts: MatMul, Add, Mul and so on",
    ),
    "ai.onnx.preview.training": Reason(
        "training", "it is of training only", "export the model for inference"
    ),
}

_UNKNOWN = Reason(
    "unknown",
    "no operator of this domain is known",
    "export the model with standard operators; `mpcc ops` lists them",
)

_OTHER = Reason("other", "the operator is not supported", "`mpcc ops` lists what is supported")


def operator_of(domain: str, name: str) -> Operator | None:
    """How an operator of a domain is imported; None if it is not."""
    if domain == _ML:
        return ML_OPERATORS.get(name)
    return OPERATORS.get(name) if domain in ("", "ai.onnx") else None


_ML_REASONS: Mapping[str, Reason] = {
    "ZipMap": Reason(
        "classical learning",
        "maps cannot be shared; at the end of a model it is left out, and the scores are a tensor",
        "export without it (in skl2onnx: zipmap=False)",
    ),
    **dict.fromkeys(
        ("CastMap", "DictVectorizer"),
        Reason("classical learning", "maps cannot be shared", "give features as a tensor"),
    ),
    "CategoryMapper": Reason(
        "classical learning",
        "strings cannot be shared",
        "number the categories before, at the input's owner",
    ),
}


def reason(domain: str, name: str) -> Reason:
    """Why an operator without an importer cannot be imported on computed values."""
    if domain == _ML and name in _ML_REASONS:
        return _ML_REASONS[name]
    if domain not in ("", "ai.onnx"):
        return _DOMAINS.get(domain, _UNKNOWN)
    if name in _BY_NAME:
        return _BY_NAME[name]
    return _CONSTANT if name in FOLDABLE else _OTHER


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Support:
    """What becomes of one ONNX operator.

    Attributes:
        domain: empty for the default one.
        name: the operator.
        since: opset of its newest version.
        family: of operators that are alike.
        status: ``yes``, ``partly``, ``constants`` (only where all its operands are constant; the
            others are computed then too) or ``no``.
        note: what is supported, or why it is not.
        refused: of ``partly``: what is refused; else the nearest way out.
    """

    domain: str
    name: str
    since: int
    family: str
    status: str
    note: str
    refused: str


def _support(schema: onnx.defs.OpSchema) -> Support:
    domain, name, since = str(schema.domain), str(schema.name), int(schema.since_version)
    operator = operator_of(domain, name)
    if operator is None:
        why = reason(domain, name)
        status = "constants" if not domain and name in FOLDABLE else "no"
        return Support(domain, name, since, why.family, status, why.why, why.fix)
    line = (operator.run.__doc__ or "").strip().splitlines()[0]
    note = line.partition(": ")[2].rstrip(".")
    status = "partly" if operator.refused else "yes"
    family = "classical learning" if domain else _FAMILY_OF[name]
    return Support(domain, name, since, family, status, note, operator.refused)


def operators(schemas: Iterable[onnx.defs.OpSchema] | None = None) -> list[Support]:
    """All operators that the installed ONNX declares, by domain and name."""
    found = onnx.defs.get_all_schemas() if schemas is None else schemas
    return sorted((_support(s) for s in found), key=lambda s: (s.domain, s.name))
