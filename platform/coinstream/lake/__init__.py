"""The lake: topics landed exactly once in Iceberg tables, compacted, queried, and summed up in candles."""
