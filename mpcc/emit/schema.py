"""A minimal GraphDef schema that is wire-compatible with TensorFlow's, built at run time.

The messages carry TensorFlow's field numbers and types under our own package name, in a descriptor
pool of their own, so this module and TensorFlow can live in one process and neither is needed by
the other. Only the fields that a party program uses are declared; anything else in a file is an
unknown field, which :func:`mpcc.emit.graphdef.parse` refuses. Source of the numbers:
``tensorflow/core/framework/{graph,node_def,attr_value,function,op_def,versions}.proto``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["DT_FLOAT", "DT_UINT8", "DT_UINT32", "DT_UINT64", "PACKAGE", "GraphDef"]

PACKAGE = "mpcc.graph"

# tensorflow/core/framework/types.proto; an open enum is a varint, so int32 reads the same bytes.
DT_FLOAT = 1
DT_UINT8 = 4
DT_UINT32 = 22
DT_UINT64 = 23

# message -> (field, number, type); a type may be "repeated T" or "map T" (keys are strings).
_SCALARS = {"string", "bytes", "int64", "int32", "float", "bool"}
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "GraphDef": (
        ("node", 1, "repeated NodeDef"),
        ("library", 2, "FunctionDefLibrary"),
        ("versions", 4, "VersionDef"),
    ),
    "VersionDef": (("producer", 1, "int32"), ("min_consumer", 2, "int32")),
    "NodeDef": (
        ("name", 1, "string"),
        ("op", 2, "string"),
        ("input", 3, "repeated string"),
        ("device", 4, "string"),
        ("attr", 5, "map AttrValue"),
    ),
    "ListValue": (("s", 2, "repeated bytes"), ("i", 3, "repeated int64")),
    # All fields are members of the one-of "value".
    "AttrValue": (
        ("list", 1, "ListValue"),
        ("s", 2, "bytes"),
        ("i", 3, "int64"),
        ("b", 5, "bool"),
        ("type", 6, "int32"),
        ("func", 10, "NameAttrList"),
    ),
    "NameAttrList": (("name", 1, "string"),),
    "FunctionDefLibrary": (("function", 1, "repeated FunctionDef"),),
    "FunctionDef": (
        ("signature", 1, "OpDef"),
        ("node_def", 3, "repeated NodeDef"),
        ("ret", 4, "map string"),
    ),
    "OpDef": (
        ("name", 1, "string"),
        ("input_arg", 2, "repeated ArgDef"),
        ("output_arg", 3, "repeated ArgDef"),
    ),
    "ArgDef": (("name", 1, "string"), ("type", 3, "int32")),
}
_ONEOF = {"AttrValue": "value"}

_Field = descriptor_pb2.FieldDescriptorProto


def _set_type(field: descriptor_pb2.FieldDescriptorProto, type_: str) -> None:
    if type_ in _SCALARS:
        field.type = _Field.Type.Value(f"TYPE_{type_.upper()}")
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{type_}"


def _message(name: str) -> descriptor_pb2.DescriptorProto:
    message = descriptor_pb2.DescriptorProto(name=name)
    oneof = _ONEOF.get(name)
    if oneof is not None:
        message.oneof_decl.add(name=oneof)
    for field_name, number, type_ in _MESSAGES[name]:
        field = message.field.add(name=field_name, number=number, label=_Field.LABEL_OPTIONAL)
        modifier, _, base = type_.rpartition(" ")
        if modifier == "map":
            # A map is a repeated message of (key, value) pairs with this option, on the wire too.
            entry = message.nested_type.add(name=f"{field_name.capitalize()}Entry")
            entry.options.map_entry = True
            key = entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL)
            _set_type(key, "string")
            value = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL)
            _set_type(value, base)
            field.label = _Field.LABEL_REPEATED
            field.type = _Field.TYPE_MESSAGE
            field.type_name = f".{PACKAGE}.{name}.{entry.name}"
            continue
        _set_type(field, base)
        if modifier == "repeated":
            field.label = _Field.LABEL_REPEATED
        if oneof is not None:
            field.oneof_index = 0
    return message


def _build() -> Any:
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(
        name="mpcc/graph.proto", package=PACKAGE, syntax="proto3"
    )
    for name in _MESSAGES:
        file.message_type.append(_message(name))
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.GraphDef"))


GraphDef: Any = _build()
"""The message class; construct it, or read bytes with ``GraphDef.FromString``."""
