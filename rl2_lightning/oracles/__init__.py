"""Reference players that know the family of tasks, batched over trials."""
