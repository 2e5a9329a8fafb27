"""The tables of arXiv 1611.02779 and more: evaluate a last checkpoint, or render all tables."""
