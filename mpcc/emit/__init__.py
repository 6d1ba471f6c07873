"""Emission: party IR to a TensorFlow-compatible GraphDef and back, and tables generated from it."""
