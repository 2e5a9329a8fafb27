"""The tables of arXiv 1611.02779 from last checkpoints: evaluate one, or render them all."""
