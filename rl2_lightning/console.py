"""Print tables so that they can be read in a terminal and in a log."""

from rich import get_console
from rich.console import Console
from rich.table import Table

WIDTH = 200  # characters of a line without a terminal


def print_table(table: Table) -> None:
    """Print a table on standard output, as wide as the terminal or 200 characters wide."""
    console = get_console()
    if not console.is_terminal:  # a file or a pipe, which has no width
        console = Console(width=WIDTH)
    console.print(table)
