"""`python -m experiments.provico VERB ...`: the same as `vidembed VERB provico ...`."""

import sys

from vidembed.cli.launch import main
from vidembed.recipes.provico import recipe as recipe

if __name__ == "__main__":
    sys.exit(main(name="provico"))
