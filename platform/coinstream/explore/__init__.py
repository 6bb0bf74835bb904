"""Read topics, tables and lag as data frames, for the explorer and for notebooks."""
