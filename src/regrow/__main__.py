"""`python -m regrow`: the command line, where the script `regrow` is not on the path."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
