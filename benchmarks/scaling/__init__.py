"""Measure what a second device brings, and what more would by a model."""
