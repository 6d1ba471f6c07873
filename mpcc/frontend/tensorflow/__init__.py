"""The TensorFlow importer: SavedModels, Keras files, and functions of TensorFlow."""
