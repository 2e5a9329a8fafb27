"""Measure how the cost of an iteration grows with its trials, and with the agent."""
