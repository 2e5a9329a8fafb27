"""MiniGrid's grids with drawn layouts, for `env=gymnasium`."""
