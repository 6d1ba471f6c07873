"""Importers: a model in a foreign format becomes a module of the tensor level."""

from mpcc.frontend.choose import Format, format_of, import_model
from mpcc.frontend.importer import Imported, Port
from mpcc.frontend.onnx.loader import import_onnx

__all__ = ["Format", "Imported", "Port", "format_of", "import_model", "import_onnx"]
