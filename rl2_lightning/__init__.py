"""RL²: recurrent agents whose activations become a learning algorithm (arXiv 1611.02779)."""
