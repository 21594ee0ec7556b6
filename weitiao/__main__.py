"""`python -m weitiao` is `weitiao`."""

from weitiao.cli import main

if __name__ == "__main__":
    main()
