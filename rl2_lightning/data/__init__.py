"""Play trials with the current agent, cut them into windows, and make minibatches of these."""
