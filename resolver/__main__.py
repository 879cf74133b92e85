"""Entry of a worker process: ``python -m resolver NUMBER DESCRIPTOR``, started by the supervisor."""

import sys

from resolver.worker import main

main(sys.argv[1:])
