"""``python -m mpcc``: the command line."""

from mpcc.cli import main

main()
