"""Print a table of all players at the end of a run."""

from lightning.pytorch import LightningModule, Trainer
from rich import box
from rich.table import Table

from rl2_lightning.callbacks.outcome import Outcome, OutcomeReader, outcome_of
from rl2_lightning.console import print_table


class ClosingTable(OutcomeReader):
    """Prints the returns of agent and reference players after a test, the best first."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table on rank zero."""
        if trainer.is_global_zero:
            print_table(closing_table(outcome_of(trainer, pl_module, "test")))


def closing_table(outcome: Outcome) -> Table:
    """Make a table of the players of an outcome, sorted by their mean return of a trial.

    Args:
        outcome: the curves of all players.

    Returns:
        A table with the best player in bold.
    """
    held_out, reference = outcome.held_out, outcome.held_out.reference
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{outcome.stage} on {len(held_out):,} held-out tasks, "
        f"at most {held_out.num_episodes:,} episodes each",
        title_justify="left",
    )
    table.add_column("player")
    table.add_column("mean return of a trial ± 95 %", justify="right")
    if reference is not None:
        table.add_column("share of the reference", justify="right")
    ranked = sorted(outcome.players().items(), key=lambda item: -item[1].trial_return)
    for rank, (name, curve) in enumerate(ranked):
        words = name.replace("_", " ") + (" (reference)" if name == reference else "")
        share = held_out.share_of_reference(curve)
        cells = [words, curve.trial_text()]
        if reference is not None:
            cells.append("" if share is None else f"{share:.1%}")
        table.add_row(*cells, style="bold" if rank == 0 else None)
    return table
