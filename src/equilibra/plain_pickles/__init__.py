"""Plain data in the pickles of other programs, read without executing them."""
