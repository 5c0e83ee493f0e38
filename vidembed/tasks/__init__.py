"""Tasks: ways of learning; a task turns a batch into a number."""
