"""What `embedrt info` says of an encoder's spec."""

from __future__ import annotations

from dataclasses import replace

from embedrt.commands.info import encoder_lines
from tests.encoders import RMS, make_spec


def test_blocks_of_one_kind_are_one_line() -> None:
    assert encoder_lines(make_spec()) == ["2 x post layer norm, 4 heads of 8, distance table, gelu 48"]


def test_each_kind_has_its_line_and_shared_weights_are_said() -> None:
    spec = make_spec(
        attention={"num_kv_heads": 2, "causal": True, "rotary": "near", "distance_bias": "none"},
        feed_forward={"gated": True, "activation": "silu"},
        block={"norms": "pre", "norm": RMS},
        blocks=3,
    )
    last = spec.blocks[2]
    spec = replace(spec, blocks=(
        spec.blocks[0], replace(last, attention=replace(last.attention, window=16)), replace(spec.blocks[2], weights=0)
    ))  # fmt: skip
    assert encoder_lines(spec) == [
        "2 x pre rms norm, 4 heads of 8 over 2, causal, rotary near, gated silu 48",
        "1 x pre rms norm, 4 heads of 8 over 2, causal, window 16, rotary near, gated silu 48",
        "1 blocks have the weights of others",
    ]
