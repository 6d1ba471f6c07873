"""Phi: JSON in and out, its size, and what it refuses."""

import json
from dataclasses import replace

import pytest

from mpcc.errors import MpccError
from mpcc.ir.phi import FormatOptions, Phi

PHI = Phi("guarded", 64, 18, 22, 3, ((0, 1),), ((0, 2), (3, 11), (5, 12)), ((5, 12),))


def test_json_round_trip():
    assert Phi.from_json(PHI.to_json()) == PHI
    assert Phi.from_json(json.dumps(json.loads(PHI.to_json()), indent=1)) == PHI


def test_size_counts_every_disclosed_number():
    # policy 2, ring 1, fractions 2 x 6, weights 6, input 6, shared? 1, ranges 3 x 6,
    # which ops are clamped 3, clamp 6
    assert PHI.size_bits == 2 + 1 + 12 + 6 + 6 + 1 + 18 + 3 + 6
    one = Phi("observed", 64, 18, 22, 3, (), ((0, 12), (3, 12), (5, 12)))
    assert one.size_bits == 2 + 1 + 12 + 6 + 1 + 6


def test_rings_are_listed_or_marked_whichever_is_shorter():
    """Which of the two 1, then how many and 24 bits each, or how far and a bit each."""
    plain = PHI.size_bits
    far, near = replace(PHI, others=(9000,)), replace(PHI, others=tuple(range(9)))
    assert far.size_bits == plain + 1 + 1 + 24
    assert near.size_bits == plain + 1 + 7 + 9
    assert Phi.from_json(near.to_json()) == near


@pytest.mark.parametrize(
    "change",
    [
        {"policy": "hoped"},
        {"ring": 48},
        {"frac": -1},
        {"frac": 1.5},
        {"frac": True},
        {"weight_frac": 63},
        {"weight_bits": 56},
        {"ranges": [[0, 99]]},
        {"ranges": [[3, 1], [0, 1]]},
        {"ranges": [[0, 1], [0, 1]]},
        {"ranges": [[0]]},
        {"ranges": {"0": 1}},
        {"clamps": [["0", 1]]},
        {"inputs": [[-1, 1]]},
        {"more": 1},
    ],
)
def test_malformed_json_is_refused(change):
    data = {**json.loads(PHI.to_json()), **change}
    with pytest.raises(MpccError, match="E-phi-format"):
        Phi.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "{"])
def test_other_texts_are_refused(text):
    with pytest.raises(MpccError, match="E-phi-format"):
        Phi.from_json(text)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"policy": "guessed"}, "E-option-range"),
        ({"disclose": "all"}, "E-option-disclose"),
        ({"headroom": 7}, "E-option-headroom"),
        ({"input_ranges": {"x": (1.0, -1.0)}}, "E-option-interval"),
        ({"input_ranges": {"x": (0.0, float("inf"))}}, "E-option-interval"),
    ],
)
def test_options_are_checked(arguments, code):
    with pytest.raises(MpccError, match=code):
        FormatOptions(**arguments)
