"""CDML at the paper's scale (KDD 2018, section 4.1): the default recipe, every field an option.

    python -m experiments.cdml train --workdir W --corpus.table T --corpus.edges E
    python -m experiments.cdml evaluate --workdir W --follow
    python -m experiments.cdml show

The paper's: 7,200 triplets a batch, a 4000-256 late-fusion network, hinge loss, semi-hard mining
within the batch. It searches margins {.1, .3, .5}, learning rates {.001 ... .1} and decays without
naming its choice; the optimiser and the mining pool are not established. Margin 0.1, Adam, 0.001
and all embeddings of the batch are the defaults here, not the paper's values.
"""

import sys

from vidembed.launch import main
from vidembed.recipe import Recipe

recipe = Recipe()

if __name__ == "__main__":
    sys.exit(main(recipe, name="cdml"))
