"""The command line."""

from innerloop.cli.app import COMMANDS as COMMANDS
from innerloop.cli.app import main as main
