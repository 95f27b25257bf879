"""`python -m appliance` is the command `appliance`. Knows nothing more."""

import sys

from appliance.cli import main

if __name__ == "__main__":
    sys.exit(main())
