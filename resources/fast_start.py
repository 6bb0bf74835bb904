"""Run a module as a program with rare garbage collection.

Importing Dagster creates hundreds of thousands of objects that live as long as the process. With Python's
default thresholds, collections take a fifth of the time of these imports.

Usage: `python -m resources.fast_start MODULE ARGUMENTS...`. Processes that the program spawns import this
module first, so they also start faster.
"""

from __future__ import annotations

import gc
import runpy
import sys
from typing import Final

THRESHOLDS: Final = (50_000, 20, 20)
"""Allocations before a collection of the youngest generation, and collections before one of the next."""

gc.set_threshold(*THRESHOLDS)

if __name__ == "__main__":
    del sys.argv[0]
    # `sys.modules["__main__"]` stays this module, which `multiprocessing` imports first in its children.
    runpy.run_module(sys.argv[0], run_name="__main__")
