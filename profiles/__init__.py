"""One TOML file a board, every figure with its source; loaded by `fedsparse.boards`."""
