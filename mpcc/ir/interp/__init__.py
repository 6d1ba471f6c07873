"""Interpreters, one per level: the ground truth for everything below."""
