"""One multiplier for every deadline of the tests that run on the real clock, for slow machines."""

import os

SCALE = float(os.environ.get("SWARMKIT_TEST_TIMEOUT_SCALE", "1"))
