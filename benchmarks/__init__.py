"""Everything that asserts a figure. Each module's `run` is a bench of `coinstream bench NAME`."""
