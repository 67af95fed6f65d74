"""`python -m duologue.cli`."""

from duologue.cli.app import main

main()
