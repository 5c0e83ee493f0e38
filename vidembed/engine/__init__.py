"""Run recipes: step, training, evaluation, and the cost of a step."""
