"""TensorFlow Lite models, read without TensorFlow."""
