"""Training: a Lightning module and data module, averaged weights, exact resume."""
