"""`python -m experiments.clip_classes VERB ...`: the same as `vidembed VERB clip-classes ...`."""

import sys

from vidembed.cli.launch import main
from vidembed.recipes.clip_classes import recipe as recipe

if __name__ == "__main__":
    sys.exit(main(name="clip-classes"))
