"""Importers: a model in a foreign format becomes a module of the tensor level."""

from mpcc.frontend.importer import Imported, Port
from mpcc.frontend.onnx.loader import import_onnx

__all__ = ["Imported", "Port", "import_onnx"]
