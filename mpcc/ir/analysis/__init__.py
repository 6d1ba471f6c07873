"""Analyses of IR modules; they read and never change."""
