"""Where the environments of a family are played."""

from rl2_lightning.families.execution import BATCHED, Execution
from rl2_lightning.families.gymnasium.processes import ProcessRows
from rl2_lightning.families.gymnasium.rows import Layouts, LocalRows, Results, Rows

BACKENDS = (BATCHED, "vector", "process", "ray")


def make_rows(layouts: Layouts, num_rows: int, execution: Execution) -> Rows:
    """The environments of B rows.

    Args:
        layouts: what is known of the environment.
        num_rows: B.
        execution: where they are played.
    """
    if execution.backend == "process":
        return ProcessRows(layouts, num_rows, execution)
    if execution.backend == "vector":
        from rl2_lightning.families.gymnasium.vector import VectorRows

        return VectorRows(layouts, num_rows)
    if execution.backend == "ray":
        from rl2_lightning.families.gymnasium.on_ray import RayRows

        return RayRows(layouts, num_rows, execution)
    return LocalRows(layouts, Results.allocate(layouts, num_rows))
