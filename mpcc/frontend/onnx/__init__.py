"""The ONNX importer: one function per operator, in a file per family."""
