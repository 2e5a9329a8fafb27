"""Seeds depend on purpose, run, rank and iteration, and on nothing else."""

from itertools import product

import torch

from rl2_lightning.data.seeding import Purpose, derive_seed, permutation


def test_seeds_differ_by_everything_that_they_are_made_of() -> None:
    made_of = list(product(Purpose, range(3), range(3), range(20)))
    seeds = [derive_seed(*parts) for parts in made_of]
    assert len(set(seeds)) == len(made_of)


def test_the_order_of_the_counters_counts() -> None:
    assert derive_seed(Purpose.MINIBATCHES, 1, 2, 3) != derive_seed(Purpose.MINIBATCHES, 1, 3, 2)
    assert derive_seed(Purpose.MINIBATCHES, 1, 2) != derive_seed(Purpose.MINIBATCHES, 1, 2, 3)


def test_seeds_suit_the_generators() -> None:
    seeds = [derive_seed(Purpose.NETWORK, seed) for seed in (*range(200), 2**32, 2**40)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**61, "all bits are used"
    for seed in seeds[-3:]:
        torch.Generator().manual_seed(seed)


def test_seeds_stay_what_they_are() -> None:
    # With other numbers an interrupted run would resume differently.
    assert derive_seed(Purpose.NETWORK, 1) == 8514611595135926838
    assert derive_seed(Purpose.MINIBATCHES, 1, 2, 3, 4) == 2236112399759783315


def test_permutation_is_one_and_follows_from_its_seed() -> None:
    device = torch.device("cpu")
    order = permutation(50, 3, device)
    assert sorted(order.tolist()) == list(range(50))
    assert torch.equal(order, permutation(50, 3, device))
    assert not torch.equal(order, permutation(50, 4, device))
