"""`python -m innerloop.cli`."""

import sys

from innerloop.cli.app import main

sys.exit(main())
