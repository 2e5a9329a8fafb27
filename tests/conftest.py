"""Every process of the tests computes with one thread, so that their bits can be compared."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
