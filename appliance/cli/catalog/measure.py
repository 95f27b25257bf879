"""A child that measures this machine's memory bandwidth, and remembers it.

NumPy, which that takes, stays out of a server's own memory. Knows no model.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.fit.machine.device import measure_device
from appliance.launch.machine import with_bandwidth

if __name__ == "__main__":
    with_bandwidth(measure_device(), Path(sys.argv[1]))
