"""Learners, which train an agent: one file each, with the base class in `learner.py`."""
