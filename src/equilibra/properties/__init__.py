"""Properties that trained networks predict: differentiable functions of crystals, for guidance to aim at or for judging what came out."""
