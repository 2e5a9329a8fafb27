"""Agents: recurrent policies, independent of environments and learners."""
