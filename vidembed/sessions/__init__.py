"""Watch sessions, from logs or simulated, and the co-watch edges counted from them."""
