"""Watch sessions: from logs or simulated, to co-watch edges."""
