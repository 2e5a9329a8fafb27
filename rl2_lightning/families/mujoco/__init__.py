"""MuJoCo's robots with tasks that only their rewards or their motion tell, for `env=gymnasium`."""
