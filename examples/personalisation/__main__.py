"""Serve an agent: `python -m examples.personalisation ckpt_path=outputs/a_run`."""

import logging
import sys

from examples.personalisation.settings import ServiceSettings
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.errors import UserError


def main() -> None:
    """Run the command line."""
    with one_line_errors():
        settings = ServiceSettings.read(sys.argv[1:])
        try:
            from examples.personalisation.service import serve
        except ModuleNotFoundError as error:
            raise UserError(
                f"the service needs {error.name}: pip install 'rl2-lightning[serve]'"
            ) from error
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        serve(settings)


if __name__ == "__main__":
    main()
