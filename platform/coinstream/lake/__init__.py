"""Land topics exactly once in Iceberg tables; compact, query and aggregate them."""
