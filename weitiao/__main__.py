"""`python -m weitiao` is `weitiao`."""

from weitiao.cli import main

main()
