"""Trials: played with the current agent, cut into windows, dealt out as minibatches."""
