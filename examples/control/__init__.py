"""A Gymnasium control loop with an agent that adapts to physics it is not told."""
