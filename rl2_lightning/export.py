"""Export an agent: `python -m rl2_lightning.export ckpt_path=outputs/a_run format=onnx`."""

import sys
from pathlib import Path

from rich import get_console

from rl2_lightning.arguments import REQUIRED, read_arguments
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.run_folder import checkpoint_in

ARGUMENTS = {
    "ckpt_path": REQUIRED,  # a checkpoint, or the folder of a run
    "format": "torch",  # torch or onnx
    "path": "",  # the file to write; empty for one beside the checkpoint
}


def main() -> None:
    """Run the command line."""
    with one_line_errors():
        given = read_arguments(sys.argv[1:], ARGUMENTS)
        checkpoint = checkpoint_in(given["ckpt_path"], "ckpt_path")

        # Heavy imports, and so only after the check.
        from rl2_lightning.agents.agent import Agent
        from rl2_lightning.agents.export import SUFFIXES, require_format

        require_format(given["format"])
        default = Path(checkpoint).with_suffix(SUFFIXES[given["format"]])
        path = Path(given["path"] or default)
        Agent.load(checkpoint).export(path, given["format"])
        get_console().print(f"{path} does what the agent does", soft_wrap=True)


if __name__ == "__main__":
    main()
