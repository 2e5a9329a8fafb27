"""Families of tasks: what is drawn, how it is played, and the reference players that know it."""
