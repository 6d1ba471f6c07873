"""mpcc: compile a neural network into a program that three parties run on secret shares."""

__version__ = "0.1.0"
