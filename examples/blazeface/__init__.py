"""BlazeFace, a small face detector, on photographs that ship with scikit-image."""
