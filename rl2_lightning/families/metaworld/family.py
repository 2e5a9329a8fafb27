"""Meta-World's benchmarks as a family of tasks."""

from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.metaworld.score import BenchmarkScore


class MetaWorldTasks(GymnasiumTasks):
    """Tasks of a robot arm, whose tests report the benchmark's score.

    It has the arguments of `GymnasiumTasks`; `recorded` has to be `[success, kind]`.
    """

    def analysis(self, num_episodes: int) -> BenchmarkScore:
        """The benchmark's score."""
        # Imported here, since only the environments tell which package is missing.
        from rl2_lightning.families.metaworld.arm import KINDS

        return BenchmarkScore(KINDS, num_episodes)
