"""`python -m hypergrad`: the same as the console script."""

import sys

if __name__ == "__main__":
    try:
        from hypergrad.cli import main
    except KeyboardInterrupt:  # before there is anything to stop
        sys.exit(130)
    main()
