"""Use embeddings: quantise, index, search and recommend. Works on arrays, without runs."""
