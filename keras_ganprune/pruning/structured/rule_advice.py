"""The rule that a user could write for a layer without one."""

from __future__ import annotations

import keras


def rule_to_write(layer: keras.layers.Layer) -> str:
    """Return a `register_rule` for a layer whose kernels read the last axis but one and make the last.

    Args:
        layer: Built layer without a rule.
    """
    names = {id(v): name for name, v in vars(layer).items() if isinstance(v, keras.Variable)}
    weights = [(names[id(w)], len(w.shape)) for w in layer.weights if id(w) in names]
    kernels = [name for name, rank in weights if rank > 1]
    lines = [
        f"@kgp.register_rule({type(layer).__name__})  # with `config=` if its size is an argument",
        "def rule(layer, channels, x):",
    ]
    if kernels:
        lines += [
            f'    channels.reads(layer, "{kernels[0]}", -2, x[-1])',
            f'    new = channels.makes(layer, "{kernels[0]}", -1)',
        ]
    labels = "new" if kernels else "x[-1]"
    lines += [
        f'    channels.along(layer, "{name}", 0, {labels})' for name, rank in weights if rank == 1
    ]
    lines.append("    return x.along(channels.shape, -1, new)" if kernels else "    return x")
    return "\n".join(lines)
