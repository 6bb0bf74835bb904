"""Other Python libraries doing the same typed work, each in a process of its own."""
