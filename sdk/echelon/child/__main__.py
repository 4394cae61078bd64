"""`python -m echelon.child '{"socket": 3, …}'`"""

from __future__ import annotations

import sys

from echelon.child.main import main

sys.exit(main(sys.argv[1]))
