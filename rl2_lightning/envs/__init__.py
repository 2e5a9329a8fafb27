"""Families of tasks, and trials out of their episodes."""
