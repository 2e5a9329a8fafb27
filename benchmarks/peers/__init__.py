"""This project beside others that do the same work, in turns on one machine."""
