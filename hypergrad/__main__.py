"""`python -m hypergrad`: the same as the console script."""

from hypergrad.cli import main

if __name__ == "__main__":
    main()
