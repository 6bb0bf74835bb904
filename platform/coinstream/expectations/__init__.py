"""What must hold of market messages: Great Expectations suites, checked on every message that is landed."""
