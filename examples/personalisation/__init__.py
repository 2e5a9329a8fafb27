"""A bandit that adapts to each of many users, over HTTP; docs/serving.md describes it."""
