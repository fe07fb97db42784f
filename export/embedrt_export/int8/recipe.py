"""Settings of the int8 variant, and a few named sets of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Int8Recipe:
    """How weights and activations become 8-bit.

    Products that `kept_float32` names stay float32, all of a kind ("qkv", "attention_output", "ffn_up", "ffn_down") or
    one ("layers.0.qkv"). Of the others those with the largest local errors: `float32_share` of them, and then one by
    one, `max_wide` at most, while a parity gate would not be kept with `reserve` of its allowance to spare. That is
    measured on pooled vectors of calibration texts that took no part in the calibration.
    """

    smoothing: float = 0.5  # exponent: s = amax(x)^a / amax(w)^(1-a) per input channel; 0 turns it off
    optimize: bool = True  # improve smoothing and shift by descent on the rounding error
    weight_ratio: float = 1.0  # what weight rounding counts there, against the activations'
    shift: bool = True  # centre each channel on the middle of its range; exact, folded into the next bias
    # neurons per layer whose outputs stay float32, chosen by how they stretch the rows; in unfused graphs, channels of
    # each value where that pays
    ffn_outliers: int = 32
    gptq: bool = True  # round weights so that each row's error compensates the earlier ones'
    gptq_damping: float = 0.05  # share of the mean diagonal added to the Hessian
    # fused graphs: V of each text's first token is the sum of two 8-bit rows, the second for what the first one leaves;
    # heads that have nothing to find attend to that token, and so its error was a quarter of all vectors' error
    first_value_twice: bool = True
    # fused graphs: steps under zero of what gelu or relu gives. Gelu is over -0.17, so few of them make the least step
    # long (0.17 / 16), many leave few for the peaks; what rows of trained models reach lies between
    activation_zero: int = 24
    bias_correction: bool = True  # add the mean error of the rounded weights to the bias
    output_correction: bool = True  # and the mean error of the pooled vectors to the last norm's
    embeddings_int8: bool = True  # token table int8 with one scale per row; False: float32
    # emitted graphs: share of the table's rows, those that lose most, that get a second row of 8 bits for what is left
    table_rest_share: float = 1 / 8
    # token table int8 in traced graphs. Off: a row of 8 bits loses 3 to 5 % of all-mpnet-base-v2's frequent tokens: its
    # smallest cosine is 0.9937 then, under the gate, instead of 0.9973
    unfused_embeddings_int8: bool = False
    kept_float32: tuple[str, ...] = ()
    float32_share: float = 0.0
    reserve: float = 0.25
    max_wide: int = 4
    # emitted graphs: of the first so many layers, one after the other, the FFN's products stay float32 while texts of
    # one word over and over would not keep the gate of the smallest cosine; `max_wide` 0 turns this off as well
    repeated_ffns: int = 3


RECIPES = {
    "default": Int8Recipe(),
    "accurate": Int8Recipe(float32_share=1 / 6),
    "rounded": Int8Recipe(gptq=False),
}
"""name -> recipe. "accurate" buys accuracy with speed and size, "rounded" exports faster and a little worse."""
