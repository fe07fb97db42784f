"""Which calls with one short text are done by one call of the native module, with the bits of `WindowRunner.run`."""

from __future__ import annotations

from embedrt.executors.text_call import TextCall, TextRecipe, prepare
from embedrt.options import EncodeOptions
from embedrt.pooling import l2_normalize
from embedrt.shaping import Shaper
from embedrt.windows import WindowRunner


def find_text_call(runner: WindowRunner, shape: Shaper, options: EncodeOptions) -> TextCall | None:
    """That of calls with these options; None where they want more than a row, or more is done to it.

    Texts over the limit never go through it, so it does not matter whether they are cut or refused.
    """
    plain = (options.output_value, options.precision, options.container) == ("sentence_embedding", "float32", "array")
    if not plain or options.on_overflow == "windows" or options.show_progress_bar:
        return None
    steps = runner.head.steps_for(unnormalized=options.unnormalized)
    want, tokenizer = runner.want(options), runner.tokenizer
    if want is None or steps not in ((), (l2_normalize,)) or tokenizer.native is None or tokenizer.num_rows is None:
        return None
    recipe = TextRecipe(
        prompt=options.prompt,
        max_tokens=tokenizer.max_tokens,
        num_rows=tokenizer.num_rows,
        hidden_size=runner.head.dimension,
        want=want,
        normalize=bool(steps),
        dimension=options.truncate_dim or runner.head.dimension,
        normalize_kept=shape.normalizes_again(options),
    )
    return prepare(runner.executor, tokenizer.native, recipe)
