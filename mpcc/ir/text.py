"""The text form of every level: printer and parser, inverse to each other.

::

    module party {protocol = "rep3"} {
      func @main() {
        %0 = party.draw_ring() {key = "P0+P1", ring = 64, shape = [2, 3], stream = 7} @P0 ...

Grammar (informal)::

    module   = "module" LEVEL attrs? "{" func* "}"
    func     = "func" "@" NAME args "{" op* return? "}"
    op       = (VALUE ("," VALUE)* "=")? NAME "(" VALUE,* ")" attrs? body? (":" TYPE,*)? loc?
    body     = "body" args "{" op* return? "}"
    args     = "(" (VALUE ":" TYPE),* ")"
    return   = "return" VALUE,*
    attrs    = "{" KEY "=" ATTR,* "}"
    loc      = "loc" "(" STRING ")"

Values are numbered in order of definition; attributes print in declaration order and only where
they differ from their default. Result types are printed for readers and checked on parsing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from mpcc.errors import MpccError
from mpcc.ir.core import Function, Module, Op, Value, make_op
from mpcc.ir.define import REQUIRED, AttrValue, Dialect, InferenceError
from mpcc.ir.types import (
    PLACES,
    VISIBILITIES,
    BitsType,
    BitType,
    ClearType,
    RingType,
    SecureType,
    TensorType,
    Type,
)

__all__ = ["format_attr", "parse_module", "parse_type", "print_module"]


# --- printing ---------------------------------------------------------------------------------


def format_attr(value: AttrValue) -> str:
    """Text of one attribute value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(format_attr(v) for v in value) + "]"
    return repr(value)


def _attrs(items: Mapping[str, AttrValue]) -> str:
    if not items:
        return ""
    return " {" + ", ".join(f"{k} = {format_attr(v)}" for k, v in items.items()) + "}"


def _print_ops(
    function: Function,
    names: dict[Value, str],
    indent: str,
    keep: Callable[[Op], bool] | None = None,
) -> Iterator[str]:
    for op in function.ops:
        lines = list(_print_op(op, names, indent))
        if keep is None or keep(op):
            yield from lines
    if function.returns:
        yield f"{indent}return " + ", ".join(names[v] for v in function.returns)


def _print_op(op: Op, names: dict[Value, str], indent: str) -> Iterator[str]:
    """Lines of one op; gives its results and those of its body their names."""
    for result in op.results:
        names[result] = f"%{len(names)}"
    head = ", ".join(names[r] for r in op.results)
    head = f"{head} = " if head else ""
    operands = ", ".join(names[v] for v in op.operands)
    specs = op.definition.attributes
    shown = {
        k: v for k, v in op.attrs.items() if specs[k].default is REQUIRED or specs[k].default != v
    }
    tail = ""
    if op.results:
        tail += " : " + ", ".join(str(r.type) for r in op.results)
    if op.loc:
        tail += f" loc({json.dumps(op.loc)})"
    line = f"{indent}{head}{op.name}({operands}){_attrs(shown)}"
    if op.body is None:
        yield line + tail
    else:
        yield f"{line} body{_print_args(op.body, names)} {{"
        yield from _print_ops(op.body, names, indent + "  ")
        yield f"{indent}}}{tail}"


def _print_args(function: Function, names: dict[Value, str]) -> str:
    for arg in function.args:
        names[arg] = f"%{len(names)}"
    return "(" + ", ".join(f"{names[a]}: {a.type}" for a in function.args) + ")"


def print_module(module: Module, keep: Callable[[Op], bool] | None = None) -> str:
    """The whole module as text that :func:`parse_module` reads back to an equal module.

    Args:
        module: the module.
        keep: with it, only ops for which it is true are shown, under the names that they have in
            the whole text; that is for readers, and does not parse.
    """
    lines = [f"module {module.level}{_attrs(module.attrs)} {{"]
    for function in module.functions.values():
        names: dict[Value, str] = {}
        lines.append(f"  func @{function.name}{_print_args(function, names)} {{")
        lines.extend(_print_ops(function, names, "    ", keep))
        lines.append("  }")
    lines.append("}")
    return "\n".join(lines) + "\n"


# --- parsing ----------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      |(?P<type>(?:tensor|secure|bit|bits|ring\d+|clear)<[^<>]*>(?:@\w+)?)
      |(?P<value>%\d+)
      |(?P<string>"(?:[^"\\]|\\.)*")
      |(?P<number>-?(?:inf|nan|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?))
      |(?P<word>[A-Za-z_][\w.\-]*)
      |(?P<mark>[{}()\[\],:=@])""",
    re.VERBOSE,
)
_MAX_TEXT = 1 << 28
_MAX_NUMBER = 400
_MAX_BODIES = 8


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse_type(text: str) -> Type:
    """A type from its text.

    Raises:
        ValueError: the text is not a type.
    """
    match = re.fullmatch(r"(\w+)<([^<>]*)>(?:@(\w+))?", text)
    if not match:
        raise ValueError(f"not a type: {text!r}")
    kind, inside, place = match.groups()
    parts = [p.strip() for p in inside.split(",")] if inside else []
    if place is not None and place not in PLACES:
        raise ValueError(f"unknown place {place!r}")

    def shape(dims: str) -> tuple[int, ...]:
        return tuple(int(d) for d in dims.split("x")) if dims else ()

    def visibility(name: str) -> str:
        if name not in VISIBILITIES:
            raise ValueError(f"unknown visibility {name!r}")
        return name

    def numbered(letter: str, item: str) -> int:
        if not re.fullmatch(letter + r"\d+", item):
            raise ValueError(f"expected {letter}<number>, not {item!r}")
        return int(item[1:])

    if kind == "tensor" and len(parts) == 2 and place is None:
        *dims, dtype = parts[0].split("x")
        return TensorType(tuple(int(d) for d in dims), dtype, visibility(parts[1]))
    if kind == "secure" and len(parts) in (4, 5) and place is None:
        z, f, k, v = parts[-4:]
        dims_text = parts[0] if len(parts) == 5 else ""
        return SecureType(
            shape(dims_text), numbered("z", z), numbered("f", f), numbered("k", k), visibility(v)
        )
    if kind == "bit" and len(parts) in (1, 2) and place is None:
        return BitType(shape(parts[0] if len(parts) == 2 else ""), visibility(parts[-1]))
    if kind == "bits" and len(parts) == 1 and place is not None:
        lanes, planes = parts[0].split("x")
        return BitsType(int(lanes), int(planes), place)
    if kind == "clear" and len(parts) == 1 and place is not None:
        *dims, dtype = parts[0].split("x")
        return ClearType(tuple(int(d) for d in dims), place, dtype)
    if kind in ("ring32", "ring64") and len(parts) <= 1 and place is not None:
        return RingType(shape(parts[0] if parts else ""), int(kind[4:]), place)
    raise ValueError(f"not a type: {text!r}")


class _Parser:
    def __init__(self, text: str, dialects: Mapping[str, Dialect], source: str) -> None:
        self.text = text
        self.source = source
        self.dialects = dialects
        self.dialect: Dialect | None = None
        self.tokens: list[_Token] = []
        self.position = 0
        if len(text) > _MAX_TEXT:
            raise MpccError.of("E-ir-size", "the IR text is too long", source)
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self.fail("unexpected character", at)
            if match.lastgroup != "space":
                self.tokens.append(_Token(str(match.lastgroup), match.group(), at))
            at = match.end()
        self.tokens.append(_Token("end", "", len(text)))

    def fail(self, what: str, at: int | None = None) -> NoReturn:
        if at is None:
            at = self.tokens[min(self.position, len(self.tokens) - 1)].at
        line = self.text.count("\n", 0, at) + 1
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        shown = self.text[start : end if end >= 0 else len(self.text)]
        caret = " " * (at - start) + "^"
        raise MpccError.of(
            "E-ir-parse", f"{what}\n{shown}\n{caret}", f"{self.source}:{line}:{at - start + 1}"
        )

    def peek(self, text: str) -> bool:
        token = self.tokens[self.position]
        return token.text == text and token.kind in ("mark", "word")

    def accept(self, text: str) -> bool:
        if self.peek(text):
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(f"expected {text!r}")

    def take(self, kind: str) -> str:
        token = self.tokens[self.position]
        if token.kind != kind:
            self.fail(f"expected a {kind}")
        self.position += 1
        return token.text

    def string(self) -> str:
        at = self.tokens[self.position].at
        try:
            return str(json.loads(self.take("string")))
        except json.JSONDecodeError:
            self.fail("bad string", at)

    def attr(self, depth: int = 0) -> AttrValue:
        token = self.tokens[self.position]
        if depth > 16:
            self.fail("attribute nested too deeply")
        if token.kind == "string":
            return self.string()
        if token.kind == "number":
            if len(token.text) > _MAX_NUMBER:
                self.fail("number too long")
            self.position += 1
            return int(token.text) if re.fullmatch(r"-?\d+", token.text) else float(token.text)
        if self.accept("true"):
            return True
        if self.accept("false"):
            return False
        if token.text in ("inf", "nan") and token.kind == "word":
            self.position += 1
            return float(token.text)
        self.expect("[")
        items: list[AttrValue] = []
        while not self.accept("]"):
            if items:
                self.expect(",")
            items.append(self.attr(depth + 1))
        return tuple(items)

    def attrs(self) -> dict[str, AttrValue]:
        table: dict[str, AttrValue] = {}
        if not self.accept("{"):
            return table
        while not self.accept("}"):
            if table:
                self.expect(",")
            at = self.tokens[self.position].at
            key = self.take("word")
            if key in table:
                self.fail(f"attribute {key} is given twice", at)
            self.expect("=")
            table[key] = self.attr()
        return table

    def type(self) -> Type:
        at = self.tokens[self.position].at
        try:
            return parse_type(self.take("type"))
        except ValueError as error:
            self.fail(str(error), at)

    def module(self) -> Module:
        self.expect("module")
        at = self.tokens[self.position].at
        level = self.take("word")
        if level not in self.dialects:
            self.fail(f"unknown level {level!r}; known: {', '.join(self.dialects)}", at)
        self.dialect = self.dialects[level]
        # An opening brace starts the attributes if a key and '=' follow it.
        attrs: dict[str, AttrValue] = {}
        if self.tokens[min(self.position + 2, len(self.tokens) - 1)].text == "=":
            attrs = self.attrs()
        module = Module(level, attrs)
        module.functions.clear()
        self.expect("{")
        while not self.accept("}"):
            self.expect("func")
            self.expect("@")
            at = self.tokens[self.position].at
            name = self.take("word")
            if name in module.functions:
                self.fail(f"function {name} is defined twice", at)
            names: dict[str, Value] = {}
            module.functions[name] = self.function(name, names)
        if "main" not in module.functions:
            self.fail("the module has no function @main")
        self.take("end")
        return module

    def function(self, name: str, names: dict[str, Value], depth: int = 0) -> Function:
        if depth > _MAX_BODIES:
            self.fail("bodies nested too deeply")
        self.expect("(")
        arg_names: list[str] = []
        types: list[Type] = []
        while not self.accept(")"):
            if types:
                self.expect(",")
            arg_names.append(self.take("value"))
            self.expect(":")
            types.append(self.type())
        function = Function(name, types)
        for text, value in zip(arg_names, function.args, strict=True):
            self.define(names, text, value)
        self.expect("{")
        while not self.peek("}") and not self.peek("return"):
            function.ops.append(self.operation(names, depth))
        if self.accept("return"):
            function.returns = [self.use(names)]
            while self.accept(","):
                function.returns.append(self.use(names))
        self.expect("}")
        return function

    def define(
        self, names: dict[str, Value], text: str, value: Value, at: int | None = None
    ) -> None:
        if text in names:
            self.fail(f"{text} is defined twice", at)
        names[text] = value

    def use(self, names: dict[str, Value]) -> Value:
        at = self.tokens[self.position].at
        text = self.take("value")
        if text not in names:
            self.fail(f"{text} is not defined here", at)
        return names[text]

    def operation(self, names: dict[str, Value], depth: int) -> Op:
        start = self.tokens[self.position].at
        targets: list[str] = []
        if self.tokens[self.position].kind == "value":
            targets.append(self.take("value"))
            while self.accept(","):
                targets.append(self.take("value"))
            self.expect("=")
        at = self.tokens[self.position].at
        name = self.take("word")
        assert self.dialect is not None
        definition = self.dialect.operations.get(name)
        if definition is None:
            self.fail(f"unknown operation {name!r} at level {self.dialect.level}", at)
        self.expect("(")
        operands: list[Value] = []
        while not self.accept(")"):
            if operands:
                self.expect(",")
            operands.append(self.use(names))
        attrs = self.attrs()
        body = None
        if self.accept("body"):
            # A body sees only its own arguments, but shares the numbering.
            inner: dict[str, Value] = {}
            body = self.function("body", inner, depth + 1)
            for text, value in inner.items():
                self.define(names, text, value)
        types: list[Type] = []
        if self.accept(":"):
            types.append(self.type())
            while self.accept(","):
                types.append(self.type())
        loc = ""
        if self.accept("loc"):
            self.expect("(")
            loc = self.string()
            self.expect(")")
        try:
            op = make_op(definition, operands, attrs, loc, body)
        except InferenceError as error:
            self.fail(str(error), start)
        inferred = [r.type for r in op.results]
        if inferred != types:
            self.fail(
                f"{name} gives {', '.join(map(str, inferred)) or 'nothing'}, "
                f"the text says {', '.join(map(str, types)) or 'nothing'}",
                start,
            )
        if len(targets) != len(op.results):
            self.fail(f"{name} has {len(op.results)} results, not {len(targets)}", start)
        for text, value in zip(targets, op.results, strict=True):
            self.define(names, text, value, start)
        return op


def parse_module(text: str, dialects: Mapping[str, Dialect], source: str = "<text>") -> Module:
    """Parse the text of one module; see the grammar above.

    Raises:
        MpccError: ``E-ir-parse`` with line, column and a caret.
    """
    return _Parser(text, dialects, source).module()
