"""The System: one molecular system as the user gave it, made ready by its domain."""

from dataclasses import dataclass

from equilibra.state.features import Features


@dataclass(frozen=True, kw_only=True)
class System:
    """Abstract descriptor of one system; each domain adds its topology. Immutable.

    Attributes:
        name: What the user called it.
        features: What a network is told about it.
        digest: Hash of everything that defines it; two systems with the same digest give the same samples.
    """

    name: str
    features: Features
    digest: str
