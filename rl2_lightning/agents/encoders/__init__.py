"""From what an agent is shown to one vector a step."""
