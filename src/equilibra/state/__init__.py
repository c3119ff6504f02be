"""Systems, their features for a network, and the State: the degrees of freedom that vary."""

from equilibra.state.features import Features
from equilibra.state.state import State
from equilibra.state.system import System

__all__ = ["Features", "State", "System"]
