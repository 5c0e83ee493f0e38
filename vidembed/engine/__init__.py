"""What a run does: recipe, step, training, evaluation, and what a step costs."""
