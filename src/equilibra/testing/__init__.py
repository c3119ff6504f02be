"""What proves the rest: analytic distributions with exact scores, and the checks that every network must pass."""

from equilibra.testing.analytic import (
    AnalyticDistribution,
    GaussianMixture,
    IGSO3Mixture,
    JointDistribution,
    LatticeGaussian,
    RelativeTorusMixture,
    SlabMixture,
    WrappedNormalMixture,
)
from equilibra.testing.components import Components, FixedComponents, GaussianComponents
from equilibra.testing.curved_components import (
    IGSO3Components,
    RelativeTorusComponents,
    SlabComponents,
    WrappedNormalComponents,
)

__all__ = [
    "AnalyticDistribution",
    "Components",
    "FixedComponents",
    "GaussianComponents",
    "GaussianMixture",
    "IGSO3Components",
    "IGSO3Mixture",
    "JointDistribution",
    "LatticeGaussian",
    "RelativeTorusComponents",
    "RelativeTorusMixture",
    "SlabComponents",
    "SlabMixture",
    "WrappedNormalComponents",
    "WrappedNormalMixture",
]
