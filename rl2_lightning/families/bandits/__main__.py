"""Tune the shipped constants of Bernoulli bandits again, and write their table."""

from itertools import product

from rl2_lightning.families.bernoulli_bandit import BanditTrials
from rl2_lightning.families.tuning import write_table

PUBLISHED = [BanditTrials(*sizes) for sizes in product((10, 100, 500), (5, 10, 50))]
write_table({trials: trials.num_tasks(most=20_000) for trials in PUBLISHED})
