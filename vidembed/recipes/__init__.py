"""The systems: a file for each paper, its recipes by name in RECIPES. The engine imports none."""

PAPERS = {
    "cdml": "collaborative deep metric learning: triplets, negatives mined in the batch",
    "linear": "a space in closed form: one linear map, in seconds, beside every learned one",
    "ridge": "a linear map onto given vectors, or factors of the relations, in closed form",
    "gcml": "relational graph clustering: smart triplets, cluster labels, their control",
}
"""File → what it holds. A file is imported when the command line asks for it, not before."""
