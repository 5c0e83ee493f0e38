"""`python -m experiments.cdml VERB ...`: the same as `vidembed VERB cdml ...`."""

import sys

from vidembed.cli.launch import main
from vidembed.recipes.cdml import recipe as recipe

if __name__ == "__main__":
    sys.exit(main(name="cdml"))
