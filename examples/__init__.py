"""Agents in use: a service over HTTP, and a control loop."""
