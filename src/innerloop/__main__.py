"""`python -m innerloop`."""

import sys

from innerloop.cli.app import main

sys.exit(main())
