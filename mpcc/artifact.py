"""The artifact ``M.mpcc`` and the owner's files beside it.

``docs/artifact-format.md`` is the specification. An artifact is data, holds no secret, and is
treated as hostile when it is loaded: names, sizes, versions and hashes are checked before anything
in it is used. The program's nodes are read by :mod:`mpcc.emit`, which this module does not import.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from mpcc.errors import MpccError
from mpcc.files import (
    Create,
    atomic_files,
    atomic_write,
    json_bytes,
    load_json,
    looks_like,
    public_arrays,
    public_bytes,
)
from mpcc.ir.calls import called
from mpcc.ir.core import Module
from mpcc.ir.define import Dialect
from mpcc.ir.limits import MAX_PROGRAM_BYTES, MAX_RANK
from mpcc.ir.local import local_functions
from mpcc.ir.ops import secure, tensor
from mpcc.ir.phi import PUBLIC_OPTIONS, FormatOptions, Phi
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.types import OWNER_PLACES, PLACES
from mpcc.ir.verify import verify

__all__ = [
    "FORMAT",
    "Artifact",
    "Create",
    "Weights",
    "atomic_files",
    "atomic_write",
    "format_version",
    "load_private",
    "load_weights",
    "save_private",
    "save_weights",
    "write_private",
    "write_weights",
]

FORMAT = 3
"""Newest version of the artifact's format: it and 2 are read, others refused."""

_WITHOUT_CALLS = 2
"""The version whose programs call no functions; what calls none is written in it."""

WEIGHTS_FORMAT = 2
"""Newest version of the weights file's format; it and 1 are read, others refused."""

_WEIGHTS_ONE = 1
"""The version whose files belong to a single program."""

_MIB = 1 << 20
_LIMITS = {
    "manifest.json": 16 * _MIB,
    "tensor.mpcc": 256 * _MIB,
    "secure.mpcc": 256 * _MIB,
    "program.pb": MAX_PROGRAM_BYTES,
    "cost.json": 64 * _MIB,
}
"""Entries in their order, with the most bytes of each, unpacked."""
_MAX_FILE = 512 * _MIB
_MAX_DIRECTORY = 4096
"""Most bytes of a zip's directory of five short names."""
_MAX_WEIGHTS = 64 * 1024 * _MIB
_MAX_WEIGHTS_HEADER = 64 * _MIB
_INPUT_FIELDS = ("name", "shape", "owner", "lo", "hi")
_OUTPUT_FIELDS = ("name", "shape", "owner")
_LOCAL_FIELDS = (*_INPUT_FIELDS, "whole")
_PUBLIC = "public.safetensors"
"""An entry behind the others: the public weights that owners compute with, where there are any."""
_MAX_PUBLIC = 512 * _MIB
_ROWS = "rows"
"""Of inputs that are shared as one-hot rows along their last axis: how many places these have."""
_DTYPES: Mapping[str, type[np.generic]] = {"bool": np.bool_, "i64": np.int64}
"""Of outputs that are no numbers; the others have no field ``dtype``."""
_EPOCH = (1980, 1, 1, 0, 0, 0)

Words = npt.NDArray[Any]


# --- files ---------------------------------------------------------------------------------------


def _read(path: Path | str, limit: int, what: str) -> bytes:
    """A whole file of at most ``limit`` bytes."""
    try:
        with open(path, "rb") as file:
            # Piece by piece: one large read would reserve the limit's memory at once.
            parts: list[bytes] = []
            size = 0
            while size <= limit and (part := file.read(_MIB)):
                parts.append(part)
                size += len(part)
    except OSError as error:
        raise MpccError.of(
            "E-file-read", f"cannot read the {what}: {error.strerror or error}", str(path)
        ) from None
    if size > limit:
        raise MpccError.of("E-file-size", f"the {what} has more than {limit} bytes", str(path))
    return b"".join(parts)


# --- the artifact --------------------------------------------------------------------------------


class Artifact:
    """A compiled program with all that is public about it.

    Make one with :meth:`create` or :meth:`load`. The module of the party level is
    ``mpcc.emit.graphdef.parse(artifact.program)``.
    """

    def __init__(
        self, manifest: Mapping[str, Any], entries: Mapping[str, bytes], data: bytes | None = None
    ) -> None:
        self._manifest = dict(manifest)
        self._entries = dict(entries)
        self._data = data

    @classmethod
    def create(
        cls,
        *,
        tensor_module: Module,
        secure_module: Module,
        program: bytes,
        protocol: str,
        phi: Mapping[str, Any],
        disclosed: Sequence[str] = (),
        inputs: Sequence[Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]],
        cost: Mapping[str, Any],
        version: str,
        formats: Mapping[str, Any] | None = None,
        owners: Sequence[str] = OWNER_PLACES,
        local: Sequence[Mapping[str, Any]] = (),
        after: Sequence[str] = (),
        public: Mapping[str, Words] | None = None,
    ) -> Artifact:
        """An artifact; the same arguments give the same bytes.

        Args:
            tensor_module: the model's architecture.
            secure_module: its fixed-point form.
            program: the GraphDef of the party level.
            protocol: name of the protocol.
            phi: what analysis chose and this file discloses, as JSON values.
            disclosed: float constants of the model that stand in the program in the clear, as text.
            inputs: per input ``name``, ``shape``, ``owner``, ``lo``, ``hi`` (range enforced), and
                ``rows`` of an input of one-hot rows; other keys are left out.
            outputs: per output ``name``, ``shape``, ``owner``, likewise; ``dtype`` ``bool`` of
                truth values and ``i64`` of positions.
            cost: the public prediction, ``mpcc.cost.Cost.to_json()``.
            version: mpcc's version.
            formats: options that the formats were chosen with, ``FormatOptions.public()``; by
                default those of ``FormatOptions()``.
            owners: places that hold inputs, weights or outputs.
            local: per input of a function of an owner in ``tensor_module``: ``name``, ``shape``,
                ``owner``, ``lo``, ``hi``, and ``whole`` if it takes whole numbers only.
            after: names of outputs that their owners finish.
            public: float32 arrays of the public weights of owners' functions, by name.
        """
        entries = {
            "tensor.mpcc": print_module(tensor_module).encode(),
            "secure.mpcc": print_module(secure_module).encode(),
            "program.pb": program,
            "cost.json": json_bytes(cost),
        }
        if public:
            entries[_PUBLIC] = public_bytes(public)
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()}
        manifest: dict[str, Any] = {
            "format": format_version(secure_module),
            "mpcc": version,
            "protocol": protocol,
            "places": [p for p in PLACES if p not in OWNER_PLACES],
            "owners": list(owners),
            "phi": dict(phi),
            "formats": dict(FormatOptions().public() if formats is None else formats),
            "disclosed": list(disclosed),
            "program_sha256": hashes["program.pb"],
            "inputs": [
                {key: i[key] for key in _INPUT_FIELDS} | ({_ROWS: i[_ROWS]} if i.get(_ROWS) else {})
                for i in inputs
            ],
            "outputs": [
                {key: o[key] for key in _OUTPUT_FIELDS}
                | ({"dtype": o["dtype"]} if o.get("dtype") in _DTYPES else {})
                for o in outputs
            ],
            "entries": hashes,
        }
        if local:
            manifest["local"] = [{key: i[key] for key in _LOCAL_FIELDS} for i in local]
        if after:
            manifest["after"] = list(after)
        data = json_bytes(manifest)
        # What load would refuse is not written; both see the same values.
        checked = _check_manifest(load_json(data, "E-artifact-manifest", "manifest.json"), "")
        return cls(checked, {"manifest.json": data, **entries})

    @classmethod
    def load(cls, path: Path | str) -> Artifact:
        """Read and check a file; see :meth:`from_bytes`."""
        return cls.from_bytes(_read(path, _MAX_FILE, "artifact"), str(path))

    @classmethod
    def from_bytes(cls, data: bytes, source: str = "<artifact>") -> Artifact:
        """Read and check the bytes of an artifact, which are not trusted.

        Raises:
            MpccError: ``E-artifact-version`` if another version of the format wrote it,
                ``E-artifact...`` if it is damaged or malicious.
        """
        entries = _unzip(data, source)
        where = f"{source}, manifest.json"
        manifest = load_json(entries["manifest.json"], "E-artifact-manifest", where)
        if manifest.get("format") != _WITHOUT_CALLS:
            reads = f"formats {_WITHOUT_CALLS} and {FORMAT}"
            _check_version(manifest, FORMAT, "artifact", "E-artifact-version", source, reads)
        manifest = _check_manifest(manifest, where)
        if set(entries) != {"manifest.json", *manifest["entries"]}:
            raise MpccError.of("E-artifact-manifest", "it names other entries", where)
        for name, digest in manifest["entries"].items():
            if hashlib.sha256(entries[name]).hexdigest() != digest:
                raise MpccError.of(
                    "E-artifact-hash",
                    "the entry is not the one that was written",
                    f"{source}, {name}",
                )
        return cls(manifest, entries, data)

    def to_bytes(self) -> bytes:
        """The zip file: fixed order, timestamps and attributes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name in self._entries:
                info = zipfile.ZipInfo(name, _EPOCH)
                info.create_system = 3
                info.external_attr = 0o100644 << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                file.writestr(info, self._entries[name], compresslevel=6)
        return buffer.getvalue()

    def save(self, path: Path | str) -> None:
        """Write the file; either all of it or nothing."""
        with atomic_write(path) as file:
            file.write(self.to_bytes())

    @property
    def compiler_version(self) -> str:
        """The version of mpcc that made it."""
        version: str = self._manifest["mpcc"]
        return version

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The checked manifest, as JSON values."""
        return self._manifest

    @property
    def program(self) -> bytes:
        """The serialised GraphDef."""
        return self._entries["program.pb"]

    @property
    def program_sha256(self) -> str:
        """What the parties compare, and the weights file is bound to; hexadecimal."""
        return str(self._manifest["program_sha256"])

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return str(self._manifest["protocol"])

    @property
    def phi(self) -> Mapping[str, Any]:
        """What analysis chose from weights and data: all that the formats disclose of them."""
        found: Mapping[str, Any] = self._manifest["phi"]
        return found

    @property
    def formats(self) -> FormatOptions:
        """The options that the formats were chosen with, ranges of inputs included.

        Raises:
            MpccError: ``E-option-...``: options that no compiler takes.
        """
        given = self._manifest["formats"]
        if given["disclose"] == "none" and "ring" not in given:
            # Of before rings were chosen.
            given = {**given, "ring": self.phi.get("ring")}
        ranges = {port["name"]: (port["lo"], port["hi"]) for port in self.inputs}
        return FormatOptions(input_ranges=ranges, **given)

    @property
    def disclosed_bits(self) -> int:
        """Bits about weights and data that the formats disclose at most, as the file says it.

        The leak checker finds out whether formats that are said to be declared really are.

        Raises:
            MpccError: ``E-phi-format``.
        """
        phi = Phi.from_json(json.dumps(self.phi))
        return 0 if self._manifest["formats"]["disclose"] == "none" else phi.size_bits

    @property
    def disclosed(self) -> list[str]:
        """Float constants of the model that stand in the program in the clear, as text."""
        return list(self._manifest["disclosed"])

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Per input: name, shape, owner, lo, hi; rows of one that is shared as one-hot rows."""
        return list(self._manifest["inputs"])

    @property
    def local_inputs(self) -> list[dict[str, Any]]:
        """Inputs of functions of owners, of which others are computed before these are shared.

        Per input: name, shape, owner, lo, hi; whole if it takes whole numbers only.
        """
        return list(self._manifest.get("local", ()))

    @property
    def finished_outputs(self) -> list[str]:
        """Names of outputs of which the program opens scores, and their owners make the answer."""
        return list(self._manifest.get("after", ()))

    @property
    def given_inputs(self) -> list[dict[str, Any]]:
        """What a run is given: :attr:`inputs` with those that are computed replaced by their own.

        Those of whole numbers have ``whole``, those of numbers of rows ``rows``.
        """
        local = self.local_inputs
        if not local:
            return self.inputs
        functions = local_functions(self.tensor_module).values()
        made = {op.attrs["name"] for f in functions for op in f.walk(tensor.Output.name)}
        return [*local, *(port for port in self.inputs if port["name"] not in made)]

    @cached_property
    def public_weights(self) -> dict[str, Words]:
        """Public weights of functions of owners, float32 by name; of a file that is not trusted.

        Raises:
            MpccError: ``E-artifact-public``: they are damaged, or not those of the functions.
        """
        data = self._entries.get(_PUBLIC)
        arrays = {} if data is None else public_arrays(data, _PUBLIC)
        wanted = {
            op.attrs["name"]: op.attrs["shape"]
            for function in local_functions(self.tensor_module).values()
            for op in function.walk(tensor.Weight.name)
        }
        if {n: a.shape for n, a in arrays.items()} != wanted:
            what = "not the public weights of the owners' functions"
            raise MpccError.of("E-artifact-public", what, _PUBLIC, "compile the model again")
        return arrays

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """Per output: name, shape, owner; dtype of truth values and positions."""
        return list(self._manifest["outputs"])

    def decoded(self, outputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Numbers by output name, in the model's dtypes and the manifest's order."""
        dtypes = {port["name"]: _DTYPES.get(port.get("dtype", "")) for port in self.outputs}
        return {
            name: outputs[name] if dtype is None else outputs[name].astype(dtype)
            for name, dtype in dtypes.items()
        }

    @property
    def tensor_text(self) -> str:
        """Text of the tensor level."""
        return self._text("tensor.mpcc")

    @property
    def secure_text(self) -> str:
        """Text of the secure level."""
        return self._text("secure.mpcc")

    @cached_property
    def tensor_module(self) -> Module:
        """The tensor level, parsed and verified when first asked for."""
        return self._module("tensor.mpcc", tensor.DIALECT)

    @cached_property
    def secure_module(self) -> Module:
        """The secure level, parsed and verified when first asked for."""
        return self._module("secure.mpcc", secure.DIALECT)

    @cached_property
    def cost(self) -> dict[str, Any]:
        """The prediction that was written at compile time."""
        return load_json(self._entries["cost.json"], "E-artifact-cost", "cost.json")

    @property
    def odd_entries(self) -> list[str]:
        """JSON entries that are not in the form in which they are written: they may say more."""
        made = {"manifest.json": self._manifest, "cost.json": self.cost}
        return [name for name, value in made.items() if json_bytes(value) != self._entries[name]]

    @property
    def is_odd_file(self) -> bool:
        """Whether the file is not the one that is written for its entries: it may hold more.

        Gaps, comments and extra fields of a zip file can, and so can the choices of a compressor.
        """
        return self._data is not None and self._data != self.to_bytes()

    def _text(self, name: str) -> str:
        try:
            return self._entries[name].decode()
        except UnicodeDecodeError:
            raise MpccError.of("E-artifact-text", "not UTF-8", name) from None

    def _module(self, name: str, dialect: Dialect) -> Module:
        module = parse_module(self._text(name), {dialect.level: dialect}, name)
        verify(module, dialect)
        return module

    def __repr__(self) -> str:
        return (
            f"<Artifact {self.protocol}, program {self.program_sha256[:12]}, "
            f"{len(self.inputs)} inputs, {len(self.outputs)} outputs>"
        )


def _unzip(data: bytes, source: str) -> dict[str, bytes]:
    """The entries of a zip file that has exactly the expected ones, in order, within limits."""

    def refuse(what: str, where: str = "") -> NoReturn:
        raise MpccError.of(
            "E-artifact", what, f"{source}, {where}" if where else source, "compile the model again"
        )

    # zipfile reads all of a directory before it tells how long it is; the record at the very end
    # says it. A zip64 has a locator before that record.
    locator, end = data[-42:-22], data[-22:]
    if len(data) < 42 or end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        found = looks_like(data)
        if found == "an ONNX model":
            raise MpccError.of(
                "E-artifact",
                "this is no artifact; it looks like an ONNX model",
                source,
                f"compile it first: mpcc compile {source} -o M.mpcc",
            )
        refuse("does not end as an artifact does" + (f"; it looks like {found}" if found else ""))
    if locator[:4] == b"PK\6\7":
        refuse("is a zip64 file")
    here, entries_in_all, size = struct.unpack("<8x2HI6x", end)
    entries_wanted = f"must have exactly the entries {', '.join(_LIMITS)}"
    more = here == len(_LIMITS) + 1
    limits = {**_LIMITS, _PUBLIC: _MAX_PUBLIC} if more else _LIMITS
    if not here == entries_in_all == len(limits) or size > _MAX_DIRECTORY:
        refuse(entries_wanted)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            infos = file.infolist()
            names = [info.filename for info in infos]
            if names != list(limits):
                refuse(entries_wanted)
            if file.comment or infos[0].header_offset:
                refuse("has data beside its entries")
            entries = {}
            for info in infos:
                name = info.filename
                if info.flag_bits & 0x1 or info.compress_type not in (
                    zipfile.ZIP_STORED,
                    zipfile.ZIP_DEFLATED,
                ):
                    refuse("is encrypted or packed in an unknown way", name)
                if info.file_size > limits[name]:
                    refuse(f"has more than {limits[name]} bytes", name)
                # The sizes in the file may lie, so reading is bounded too.
                with file.open(info) as entry:
                    content = entry.read(limits[name] + 1)
                if len(content) != info.file_size:
                    refuse("has another size than announced", name)
                entries[name] = content
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        OSError,
    ) as error:
        refuse(f"not a readable artifact: {error}")
    return entries


def format_version(secure_module: Module) -> int:
    """The version of the format that a program is written in."""
    return FORMAT if called(secure_module) else _WITHOUT_CALLS


def _check_version(
    data: Mapping[str, Any], known: int, what: str, code: str, source: str, reads: str = ""
) -> None:
    found = data.get("format")
    if found == known and type(found) is int:
        return
    shown = found if type(found) is int else "of an unknown version"
    newer = type(found) is int and found > known
    raise MpccError.of(
        code,
        f"the {what} has format {shown}, this mpcc reads {reads or f'format {known}'}",
        source,
        "use the newer mpcc that wrote it, or compile the model again with this one"
        if newer
        else "compile the model again with this version, or use the version that wrote it",
    )


def _is_name(value: Any) -> bool:
    # Names reach terminals: control characters would reach them too.
    return isinstance(value, str) and 0 < len(value) <= 1000 and value.isprintable()


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_RANK
        and all(type(d) is int and 0 <= d < 2**40 for d in value)
    )


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_number(value: Any) -> bool:
    # An integer may be too long for a float; no bound of ours is so large.
    return (type(value) is int and abs(value) < 2**64) or (
        type(value) is float and math.isfinite(value)
    )


def _check_manifest(manifest: dict[str, Any], where: str) -> dict[str, Any]:
    """The manifest, if it has exactly the fields of this format with values of the right kinds."""

    def need(condition: bool, what: str) -> None:
        if not condition:
            raise MpccError.of("E-artifact-manifest", f"{what} is missing or malformed", where)

    fields = {
        "format",
        "mpcc",
        "protocol",
        "places",
        "owners",
        "phi",
        "formats",
        "disclosed",
        "program_sha256",
        "inputs",
        "outputs",
        "entries",
    }
    need(
        set(manifest) - {"local", "after"} == fields,
        "a field, or the format that knows the fields given,",
    )
    for key in ("mpcc", "protocol"):
        need(_is_name(manifest[key]), key)
    for key in ("places", "owners"):
        names = manifest[key]
        need(isinstance(names, list) and all(n in PLACES for n in names), key)
        need(len(set(names)) == len(names), key)
    need(isinstance(manifest["phi"], dict), "phi")
    formats = manifest["formats"]
    need(isinstance(formats, dict), "formats")
    need(set(formats) - {"ring", "round_bytes"} == set(PUBLIC_OPTIONS), "formats")
    need(type(formats.get("round_bytes", 1)) is int, "formats")
    need(formats.get("ring") is None or type(formats["ring"]) is int, "formats")
    need(type(formats["disclose"]) is str and type(formats["clamp_bits"]) is int, "formats")
    need(formats["policy"] is None or type(formats["policy"]) is str, "formats")
    need(formats["fraction_bits"] is None or type(formats["fraction_bits"]) is int, "formats")
    for key in ("weight_range", "value_range"):
        need(formats[key] is None or _is_number(formats[key]), "formats")
    disclosed = manifest["disclosed"]
    need(
        isinstance(disclosed, list)
        and all(isinstance(text, str) and text.isprintable() for text in disclosed),
        "disclosed",
    )
    entries = manifest["entries"]
    need(isinstance(entries, dict) and list(entries) == sorted(entries), "entries")
    need(set(entries) - {_PUBLIC} == set(_LIMITS) - {"manifest.json"}, "entries")
    need(all(_is_hash(h) for h in entries.values()), "entries")
    need(manifest["program_sha256"] == entries["program.pb"], "program_sha256")
    for key, known in (("inputs", _INPUT_FIELDS), ("outputs", _OUTPUT_FIELDS)):
        need(isinstance(manifest[key], list), key)
        for item in manifest[key]:
            need(isinstance(item, dict), key)
            dtype = {"dtype"} & set(item) if key == "outputs" else set()
            rows = {_ROWS} & set(item) if key == "inputs" else set()
            need(set(item) == {*known, *dtype, *rows}, key)
            need(not dtype or (isinstance(item["dtype"], str) and item["dtype"] in _DTYPES), key)
            need(_is_name(item["name"]) and _is_shape(item["shape"]), key)
            need(not rows or (type(item[_ROWS]) is int and item[_ROWS] > 0), key)
            need(not rows or item["shape"][-1:] == [item[_ROWS]], key)
            known_owners = {*manifest["owners"], *(("public",) if key == "inputs" else ())}
            need(isinstance(item["owner"], str) and item["owner"] in known_owners, key)
            need(all(_is_number(item[bound]) for bound in set(known) & {"lo", "hi"}), key)
        names = [item["name"] for item in manifest[key]]
        need(len(set(names)) == len(names), key)
    _check_local_fields(manifest, need)
    return manifest


def _check_local_fields(manifest: dict[str, Any], need: Callable[[bool, str], None]) -> None:
    """What functions of owners take and give: fields of the right kinds, names of their own."""
    if "after" in manifest:
        names = manifest["after"]
        need(isinstance(names, list) and len(names) > 0, "after")
        need(all(_is_name(name) for name in names) and len(set(names)) == len(names), "after")
    if "local" not in manifest:
        return
    local = manifest["local"]
    need(isinstance(local, list) and len(local) > 0, "local")
    for item in local:
        need(isinstance(item, dict) and set(item) == set(_LOCAL_FIELDS), "local")
        need(_is_name(item["name"]) and _is_shape(item["shape"]), "local")
        need(isinstance(item["owner"], str) and item["owner"] in manifest["owners"], "local")
        need(_is_number(item["lo"]) and _is_number(item["hi"]), "local")
        need(isinstance(item["whole"], bool), "local")
    names = [item["name"] for item in (*local, *manifest["inputs"])]
    need(len(set(names)) == len(names), "local")


# --- the owner's files ---------------------------------------------------------------------------


class Weights(Mapping[str, Words]):
    """Fixed-point weights by name, as unsigned ring words; their repr shows shapes only.

    Attributes:
        program_sha256: the program that they were read for.
    """

    def __init__(self, arrays: Mapping[str, Words], program_sha256: str) -> None:
        self._arrays = dict(arrays)
        self.program_sha256 = program_sha256

    def __getitem__(self, name: str) -> Words:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shown = ", ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in self._arrays.items())
        return f"<Weights of program {self.program_sha256[:12]}; {shown}>"


def _ring_words(name: str, array: Words) -> Words:
    if array.dtype not in (np.uint64, np.uint32, np.int64, np.int32):
        raise MpccError.of(
            "E-weights-type", f"weights are ring words of 32 or 64 bits, not {array.dtype}", name
        )
    return np.asarray(array, order="C").view(f"<u{array.dtype.itemsize}")


def save_weights(path: Path | str, arrays: Mapping[str, Words], *programs: str) -> None:
    """Write the model owner's file: mode 0600, safetensors, bound to its programs.

    Args:
        path: usually the artifact's path with the suffix ``.weights``.
        arrays: raw values by weight name; signed ones are stored as ring words.
        programs: hashes of the programs that the weights belong to, one or more.
    """
    with atomic_files() as create:
        write_weights(create, path, arrays, programs)


def write_weights(
    create: Create, path: Path | str, arrays: Mapping[str, Words], programs: Sequence[str]
) -> None:
    """The file of :func:`save_weights` among others that appear together."""
    words = {name: _ring_words(name, np.asarray(a)) for name, a in arrays.items()}
    # One metadata entry, since safetensors writes several in no fixed order. The format is the
    # lowest that can say it.
    binding: dict[str, Any] = {"format": _WEIGHTS_ONE, "program_sha256": programs[0]}
    if len(programs) > 1:
        binding = {"format": WEIGHTS_FORMAT, "programs": list(programs)}
    text = json.dumps(binding, sort_keys=True)
    data = safetensors.numpy.save(words, metadata={"mpcc": text})
    with create(path, mode=0o600) as file:
        file.write(data)


def load_weights(path: Path | str, program_sha256: str) -> Weights:
    """Read the model owner's file and check that it belongs to this program.

    Raises:
        MpccError: ``E-weights-program`` if it belongs to another one, ``E-weights`` if the file is
            damaged.
    """
    data = _read(path, _MAX_WEIGHTS, "weights file")
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(len(data) - 8, _MAX_WEIGHTS_HEADER):
        raise MpccError.of("E-weights", "not a safetensors file", str(path))
    header = load_json(data[8 : 8 + size].rstrip(b" "), "E-weights", str(path))
    metadata = header.get("__metadata__")
    text = metadata.get("mpcc") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise MpccError.of("E-weights", "not a weights file of mpcc", str(path))
    # JSON may escape half a surrogate pair; what cannot be decoded again is refused.
    binding = load_json(text.encode(errors="surrogatepass"), "E-weights", str(path))
    one = binding.get("format") == _WEIGHTS_ONE and type(binding["format"]) is int
    if not one:
        _check_version(binding, WEIGHTS_FORMAT, "weights file", "E-weights-version", str(path))
    programs = [binding.get("program_sha256")] if one else binding.get("programs")
    if not isinstance(programs, list) or program_sha256 not in programs:
        raise MpccError.of(
            "E-weights-program",
            "the weights belong to another program",
            str(path),
            "use the weights file that was written together with the artifact",
        )
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MpccError.of("E-weights", f"damaged: {error}", str(path)) from None
    return Weights({name: _ring_words(name, a) for name, a in arrays.items()}, program_sha256)


def save_private(path: Path | str, report: Mapping[str, Any]) -> None:
    """Write the model owner's private report (exact ranges, errors per layer); mode 0600."""
    with atomic_files() as create:
        write_private(create, path, report)


def write_private(create: Create, path: Path | str, report: Mapping[str, Any]) -> None:
    """The file of :func:`save_private` among others that appear together."""
    with create(path, mode=0o600) as file:
        file.write(json_bytes(report))


def load_private(path: Path | str) -> dict[str, Any]:
    """Read a private report."""
    return load_json(_read(path, 256 * _MIB, "private report"), "E-private", str(path))
