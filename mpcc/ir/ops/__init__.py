"""Operator declarations, one file per level."""
