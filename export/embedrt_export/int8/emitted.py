"""The int8 graph of an encoder that is emitted from its spec: what the numbers of its file mean.

`embedrt.encoder` has the walk and the names; only what differs from there is said here. T: tokens, L: layers.{weights}
of a block. Values have folds: a product reads z, where x = z * scale + shift per channel is what the spec says. Folds
lie in what makes a value and in what reads it, so that nothing of them is computed but `restore`::

    product(name, q, r, zero) = r * ((q - zero) @ {name}.weight * {name}.scale) + {name}.bias
                                weight int8 (K, N), scale and bias float32 (N,), q u8 (T, K), r float32 (T, 1)
    rows8(x)                    r = max(max|x|, 1e-30) / 127 per row           q = rint(x / r) + 128, saturating u8
    rows8_activation(g)         r = max(max g, 0.17 (255 - z) / z) / (255 - z) q = rint(g / r) + z, saturating u8
                                z: the recipe's `activation_zero`

    norm(x, name)   {name}.gamma and .beta give the folded value; RMS norms may have a .beta here, added after gamma

    attention(z):   q, r = rows8(z)
                    Q, K, V = product(L.query, q, r, 128), and so L.key, L.value
                    q, r = rows8(z - r * (q - 128)), of each text's first token only    where the recipe has
                    V = V + r * ((q - 128) @ L.value.weight * L.value.scale), of these  `first_value_twice`, V not wide
                    head norms, rotation, scores, softmax as in the spec; a = probabilities @ V, float32, folded
                    q, r = rows8(a)
                    y = product(L.attention_output, q, r, 128)
    ffn(z):         q, r = rows8(z)
                    g = activation(product(L.ffn_up, q, r, 128))                                (T, F - c)
                    o = activation(product(L.ffn_up_outlier, q, r, 128))                        (T, c)
           gated:   g = activation(product(L.ffn_gate, q, r, 128)) * product(L.ffn_up, q, r, 128)
                    o = activation(product(L.ffn_gate_outlier, ...)) * product(L.ffn_up_outlier, ...)
                    q, r = rows8(g), zero = 128      where gated, and where the activation is silu
                    q, r = rows8_activation(g), zero = z      otherwise: these are over -0.17
                    y = product(L.ffn_down, q, r, zero) + o @ L.ffn_down_outlier.weight         outliers float32 (c, H)

    x + y           is y + x * {made_by}.restore where the file has that tensor (H,), made_by the norm (or
                    embeddings.projection) that made x; its shift is in the bias of attention_output or ffn_down.
                    x is folded there because attention or the FFN reads it too: in post-norm blocks, and where
                    attention reads what is not normed. The sum itself is never folded.

A product that is kept wide has a float32 `.weight`, no `.scale`, and takes z (a, g) itself: y = z @ weight + bias.
query, key and value are wide together, and so are ffn_up, ffn_gate and their outliers. Each product has a `.bias`.
Without outliers (c = 0) their tensors are not there. Neurons are in the order of the checkpoint, without the
c outlying ones. `embeddings.projection` is float32, folded in its columns.

The norm that makes the encoder's output, which is the spec's final norm or the last block's second one, is not folded
and takes the output's correction: an RMS norm has a .beta there. Where the last block's weights are other blocks' too,
its second norm has the name `output_norm`.

`embeddings.word` is int8 (V, E) with `embeddings.word.scale` (V, 1), or float32 without a scale. Where there is an
`embeddings.word_rest` int8 (R, E) with `.scale` (R, 1), row `embeddings.word_rest.row`[id, 0] of it, int32 (V, 1), is
what the first row leaves of the token's, and is added: row 0 is zero, and most tokens have that one. The other tables,
`attention.distance_bias`, `attention.slopes` and `rotary.*.frequencies` are float32, as in the spec.
"""
