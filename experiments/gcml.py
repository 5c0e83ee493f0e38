"""`python -m experiments.gcml SYSTEM VERB ...`: the same as `vidembed VERB gcml SYSTEM ...`."""

import sys

from vidembed.cli.launch import main
from vidembed.recipes.gcml import EVALUATOR, MARGIN, RECIPES, TRIPLETS, cdml, gcl, gcml

__all__ = ["EVALUATOR", "MARGIN", "RECIPES", "TRIPLETS", "cdml", "gcl", "gcml"]

if __name__ == "__main__":
    sys.exit(main(name="gcml"))
