"""`python -m experiments.jemc VERB ...`: the same as `vidembed VERB jemc ...`."""

import sys

from vidembed.cli.launch import main
from vidembed.recipes.jemc import recipe as recipe

if __name__ == "__main__":
    sys.exit(main(name="jemc"))
