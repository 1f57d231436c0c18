"""`python -m pdeloom`."""

from .runtime.cli import main

main()
