"""Encoder, memory, heads, and the actor-critic that they make up."""
