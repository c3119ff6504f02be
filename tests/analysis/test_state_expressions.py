"""States as text: what is understood gives the mask of the same condition in NumPy; everything else is one sentence."""

import numpy as np
import pytest

from equilibra.analysis.collective_variables import CollectiveVariable
from equilibra.analysis.state_expressions import parse_state
from equilibra.errors import InputError

TORSIONS = ["phi ALA2", "psi ALA2", "torsion C1-C2-C3-O4", "psi GLY3"]
RNG = np.random.default_rng(0)
PHI, PSI, D, T = RNG.uniform(-np.pi, np.pi, 500), RNG.uniform(-np.pi, np.pi, 500), RNG.uniform(2, 8, 500), RNG.normal(size=500)
VALUES = {
    "phi ALA2": CollectiveVariable("phi ALA2", PHI, "rad", 2 * np.pi),
    "psi ALA2": CollectiveVariable("psi ALA2", PSI, "rad", 2 * np.pi),
    "torsion C1-C2-C3-O4": CollectiveVariable("torsion C1-C2-C3-O4", T, "rad", 2 * np.pi),
    "distance:1,2": CollectiveVariable("distance:1,2", D, "Å"),
    "rg": CollectiveVariable("rg", 0.5 * D, "Å"),
}


@pytest.mark.parametrize(
    ("text", "expected", "variables"),
    [
        ("phi<0", PHI < 0, ("phi ALA2",)),
        ("phi ALA2 >= 0.5", PHI >= 0.5, ("phi ALA2",)),
        ("0<phi<2", (PHI > 0) & (PHI < 2), ("phi ALA2",)),
        ("2>phi>0", (PHI > 0) & (PHI < 2), ("phi ALA2",)),
        ("phi>-2 and phi<0.5", (PHI > -2) & (PHI < 0.5), ("phi ALA2",)),
        ("-2<phi<.5e0", (PHI > -2) & (PHI < 0.5), ("phi ALA2",)),
        ("phi < -120deg or phi ≥ 120 °", (np.degrees(PHI) < -120) | (np.degrees(PHI) >= 120), ("phi ALA2",)),
        # and binds before or
        ("phi<0 or phi>1 and psi ALA2>0", (PHI < 0) | ((PHI > 1) & (PSI > 0)), ("phi ALA2", "psi ALA2")),
        ("(phi<0 or phi>1) and psi ALA2>0", ((PHI < 0) | (PHI > 1)) & (PSI > 0), ("phi ALA2", "psi ALA2")),
        ("not phi<0", PHI >= 0, ("phi ALA2",)),
        ("not (phi<0 and not psi ALA2<0)", ~((PHI < 0) & (PSI >= 0)), ("phi ALA2", "psi ALA2")),
        ("torsion C1-C2-C3-O4 > -1rad", T > -1, ("torsion C1-C2-C3-O4",)),
        ("distance:1, 2<4.5", D < 4.5, ("distance:1,2",)),
        ("0.3nm <= distance:1,2 <= 5A", (D >= 3) & (D <= 5), ("distance:1,2",)),
        ("rg < distance:1,2", np.ones(500, dtype=bool), ("rg", "distance:1,2")),
        ("phi < psi ALA2", PHI < PSI, ("phi ALA2", "psi ALA2")),
    ],
)
def test_states_are_the_conditions_they_say(text, expected, variables):
    state = parse_state(text, TORSIONS)
    np.testing.assert_array_equal(state.inside(VALUES), expected)
    assert state.variables == variables
    assert state.text == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its end stands where a collective variable"),
        ("phi", "a comparison is missing"),
        ("phi<", "its end stands where"),
        ("phi<0 and", "its end stands where"),
        ("<0", "'<' stands where"),
        ("0<1", "a number is compared with a number"),
        ("0<1<phi", "a number is compared with a number"),
        ("phi<0 phi>1", "'phi ALA2' is not expected there"),
        ("(phi<0", "a parenthesis is not closed"),
        ("phi<0)", "')' is not expected there"),
        ("phi==0", "cannot be read"),
        ("phi=0", "cannot be read"),
        ("phi<0; psi ALA2>0", "cannot be read"),
        ("omega<0", "unknown collective variable 'omega' (known: phi ALA2"),
        ("psi<0", "has 2 of them, psi ALA2, psi GLY3"),
        ("phis<0", "unknown collective variable 'phis'"),
        ("__import__('os').system('ls')<0", "unknown collective variable '__import__'"),
        ("phi.__class__<0", "cannot be read"),
        ("lambda: 0", "unknown collective variable 'lambda: 0'"),
        ("phi<2meters", "cannot be read"),
        ("distance:1,2,3<4", "got 3 atoms, expected 2"),
    ],
)
def test_what_is_no_state_is_refused_in_words(text, words):
    with pytest.raises(InputError) as caught:
        parse_state(text, TORSIONS)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"state '{text}'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("phi<180", "phi ALA2 is in rad and never reaches 180; write 180deg"),
        ("phi<400deg", "between -360deg and 360deg"),
        ("phi<2A", "is in rad, so 2A does not fit; use rad or deg"),
        ("distance:1,2<90deg", "is in Å, so 90deg does not fit"),
        ("phi<distance:1,2", "cannot be compared"),
    ],
)
def test_units_must_fit(text, words):
    with pytest.raises(InputError, match="state") as caught:
        parse_state(text, TORSIONS).inside(VALUES)
    assert words in str(caught.value)
