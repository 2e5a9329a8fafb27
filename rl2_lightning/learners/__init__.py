"""Learners: they change an agent. One file for each, on the base of `learner.py`."""
