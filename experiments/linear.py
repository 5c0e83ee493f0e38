"""`python -m experiments.linear VERB ...`: the same as `vidembed VERB linear ...`."""

import sys

from vidembed.cli.launch import main
from vidembed.recipes.linear import recipe as recipe

if __name__ == "__main__":
    sys.exit(main(name="linear"))
