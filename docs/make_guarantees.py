"""Write guarantees.md beside this file, from what `tests/helpers/guarantees.py` has measured.

KERAS_BACKEND=jax python tests/helpers/guarantees.py    # measures on a backend; likewise the other two
python docs/make_guarantees.py
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

PAGE = pathlib.Path(__file__).with_name("guarantees.md")
MEASURED = PAGE.parents[1] / "tests" / "fixtures" / "guarantees"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
ROUTES = {
    "strip": "`strip_pruning(model)`",
    "strip in place": "`strip_pruning(model, copy=False)`",
    "shrink": "`shrink(model)`",
    "shrink(sparsity=)": "`shrink(model, sparsity=)`",
    "Shrink": "`Shrink` in `fit`",
    "average": "`GANModel(ema_decay=)`",
    "teacher": "`GANModel(teacher=)`",
    "export": "`export_saved_model`",
}
NETWORKS = {
    "dense": "Dense",
    "conv_transpose": "Conv2DTranspose",
    "gru": "GRU",
    "bidirectional": "Bidirectional LSTM",
    "stateful": "stateful LSTM and GRU",
    "embedding": "Embedding",
    "attention": "MultiHeadAttention, masks, LSTM",
    "spectral_norm": "SpectralNormalization",
    "normalization": "Normalization, adapted",
    "normalization_arguments": "Normalization with given mean",
    "batch_norm": "BatchNormalization with moved statistics",
    "rescaling": "Rescaling",
    "string_lookup": "StringLookup",
    "integer_lookup": "IntegerLookup, adapted",
    "text": "TextVectorization, adapted",
    "category_encoding": "CategoryEncoding",
    "discretization": "Discretization, adapted",
    "hashing": "Hashing",
    "dropout": "Dropout with a seed that has moved",
    "sampling": "own layer that draws random numbers",
    "fourier": "own layer with random constants of `__init__`",
    "codebook": "own layer with a `keras.Variable` that is no weight",
    "tracked_codebook": "own layer with a variable among its weights",
    "framework_variable": "own layer with a variable of the backend",
    "buffer": "own layer with an array as attribute",
    "own_relu": "own function named `relu`",
    "own_gelu": "own function named `gelu`",
    "own_leaky_relu": "own function named `leaky_relu`",
    "activation_function": "`Activation(function)`, not registered",
    "activation_lambda": "`activation=lambda ...`",
    "activation_object": "`activation=` a callable object",
    "activation_in_rnn": "own function as activation of a GRU",
    "lambda_global": "Lambda over a global",
    "lambda_named": "Lambda of a named function",
    "no_kwargs": "own layer without `**kwargs`",
    "forgetful": "`get_config` that forgets an argument",
    "forgetful_units": "`get_config` that forgets a size",
    "callables": "own layer with functions as arguments",
    "late_attribute": "attribute that was set after construction",
    "regularizer": "regularizer without `get_config`",
    "initializer": "initializer without `get_config`",
    "constraint": "constraint without `get_config`",
    "nested": "nested functional and Sequential models",
    "shared": "a layer that is called twice",
    "repeated": "a layer that a Sequential holds twice",
    "constant_operation": "constants in a functional model",
    "subclassed": "subclassed model with constants",
    "two_arguments": "`call(x, t)`",
    "no_config": "subclassed model without `get_config`",
    "list_of_inputs": "a list of inputs",
    "dict_of_inputs": "a dict of inputs",
    "unknown_sizes": "unknown sizes",
    "mixed_precision": "mixed precision",
}
KINDS_OF_MODEL = {
    "sequential": "Sequential",
    "functional": "functional",
    "subclassed": "subclassed network",
    "OwnGAN": "own GAN class",
}
WAYS = {
    "by_keras": "`model.save`, `keras.saving.load_model`",
    "by_kgp": "`model.save`, `kgp.load_model`",
    "by_h5": "legacy `.h5` file, `keras.saving.load_model`",
    "by_name": "legacy `.h5` file, `load_weights(by_name=True)` of a Prunable model",
    "weights_into_plain": "`save_weights`, `load_weights` of a plain model",
    "weights_into_prunable": "`save_weights`, `load_weights` of a Prunable model",
    "shards_into_prunable": "`save_weights(max_shard_size=)`, `load_weights` of a Prunable model",
    "stripped_into_prunable": "`save_weights` of a stripped model, `load_weights` of a Prunable one",
    "by_editor": "`save_weights`, `KerasFileEditor`, `load_weights` of a Prunable model",
    "by_clone": "`clone_model`, `set_weights`",
    "by_config": "`from_config`, `set_weights`",
    "by_json": "`model_from_json`, `load_weights`",
    "set_weights": "a Prunable model made anew, `set_weights`",
    "set_weights_of_layers": "`clone_model`, `set_weights` of each layer",
    "set_weights_after_fit": "`clone_model`, `fit`, `set_weights`",
    "by_variable": "`clone_model`, `variable.assign(variable)`",
    "by_tensor": "`clone_model`, `variable.assign(tensor)`",
    "by_npz": "`get_weights`, `np.savez`, `set_weights` of a Prunable model",
    "deepcopied": "`copy.deepcopy`",
    "pickled": "`pickle`",
    "by_checkpoint": "`tf.train.Checkpoint`, restored in a Prunable model",
    "by_state_dict": "`state_dict`, `load_state_dict` of a clone",
    "set_weights_of_plain": "a plain model made anew, `set_weights`",
}
COMPUTED = ("Dense", "Embedding", "Conv2D", "MultiHeadAttention")
INTRODUCTION = """# What is guaranteed, route by route

`python docs/make_guarantees.py` writes this page from measured results; do not edit it.
`pytest -m full tests/test_guarantees.py` measures every cell again.

## Same outputs

Each network below is pruned to a sparsity of 50 %. Then each function makes a model of it. The result is
compared with **the user's model**, on inputs of its own shapes, types and ranges.

- ✓: the outputs are the same. A copy gives them bit for bit. A smaller network and a SavedModel add the same
  numbers in another order, so they may differ by rounding.
- A number: the function refuses, or gives a warning, with the reason below the table.
- ·: the function does not apply, as `GANModel` needs a generator from vectors to outputs; or it is not
  measured here. On JAX and PyTorch, `pytest -m full tests/layers/test_copies.py` exports these networks, or
  names the reason of a refusal.

Each function makes this comparison itself, on your model, and raises an error that names the first layer
that differs. It can only see what the inputs of the comparison reach: if a layer treats rare values in a
special way, pass `inputs=`, a batch that has them. Not copied, and so only safe with `copy=False`, are lookup
tables of TensorFlow that an own layer holds, and attributes such as sets that were changed later.
"""
ZEROS = """
## Zeros hold

A pruned weight stays zero, whatever writes into it, **with no callback of this package in the list**. Every
write to a masked variable is masked: `assign`, `set_weights`, files, the updates of optimizers, and the
weight averages that Keras writes back when `fit` ends. Each row is one way to write into the weights of a
pruned model.
"""
PAST = """
Only an operation of the backend on the memory of a variable is not seen: `tf.raw_ops`, `load_state_dict`
and `torch.optim` on PyTorch, arrays in a loop of your own on JAX. The next step of a Keras optimizer
masks such values, also in a plain `fit`. (On TensorFlow, `SGD` writes only some rows of an embedding. In
a table of more than a million entries it masks only these.) Until then `sparsity_report` names them in
its first line; saving, stripping and exporting warn, and so does `Prune` at the end of an epoch.
`apply_masks(model)` sets them to zero. In a loop of your own, `Pruner.attach(optimizer)` masks after
each step of an optimizer of `torch.optim`.
"""

TRAVEL = """
## Masks travel

Each row is a way to copy or load a pruned model, followed by a `fit` with no callback of this package.

- ✓: the copy has the masks.
- A number: the zeros come without their masks. "Said": a message says so, and names the call that helps,
  `kgp.masks_from_zeros(model)` for a model, or `kgp.load_model` for a file. "Not seen": it is out of reach.

[saving.md](saving.md) has the details.
"""
KERNELS = """
## LoRA and quantization

Each row is a route of a layer that was pruned to 75 %. ✓: its zeros are the same at the end.
"""


def outputs_table(table: dict[str, dict[str, str]]) -> str:
    """Return one backend's table of networks × routes, with its numbered reasons."""
    return numbered_table(table, NETWORKS, ROUTES)


def numbered_table(
    table: dict[str, dict[str, str]], labels: dict[str, str], columns: dict[str, str]
) -> str:
    """Return a table of rows × columns, with its numbered reasons.

    Args:
        table: Row -> column -> outcome.
        labels: Row -> its label.
        columns: Column -> its label.
    """
    reasons: dict[str, int] = {}

    def cell(text: str) -> str:
        if text in ("exact", "masks", "-"):
            return "·" if text == "-" else "✓"
        return str(reasons.setdefault(text, len(reasons) + 1))

    rows = [
        "| " + " | ".join(["", *columns.values()]) + " |",
        "| --- |" + " :---: |" * len(columns),
    ]
    for name, label in labels.items():
        if name in table:
            cells = [cell(table[name].get(column, "-")) for column in columns]
            rows.append("| " + " | ".join([label, *cells]) + " |")
    lines = [f"{number}. {_sentence(text)}" for text, number in reasons.items()]
    return "\n".join(rows) + "\n" + ("\n" + "\n".join(lines) + "\n" if lines else "")


def backends_table(
    tables: dict[str, dict[str, dict[str, str]]], labels: dict[str, str], columns: dict[str, str]
) -> str:
    """Return one table for all backends whose outcomes are the same, or one for each group that differs."""
    parts = []
    groups: dict[str, list[str]] = {}
    for backend, table in tables.items():
        groups.setdefault(numbered_table(table, labels, columns), []).append(backend)
    for text, backends in groups.items():
        parts.append(f"\n### {', '.join(BACKENDS[b] for b in backends)}\n\n{text}")
    return "".join(parts)


def _sentence(text: str) -> str:
    kind, _, reason = text.partition(": ")
    return f"{kind.capitalize()}: {reason}".replace("|", "\\|")


def zeros_table(tables: dict[str, dict[str, str]]) -> str:
    """Return the table of writers × backends."""
    names = list({name: None for table in tables.values() for name in table})
    rows = [
        "| | " + " | ".join(BACKENDS[b] for b in tables) + " |",
        "| --- |" + " :---: |" * len(tables),
    ]
    for name in names:
        cells = ["✓" if name in table else "·" for table in tables.values()]
        rows.append("| " + " | ".join([f"`{name}`" if "=" in name else name, *cells]) + " |")
    return "\n".join(rows) + "\n"


def page() -> str:
    """Return the text of the page."""
    measured: dict[str, Any] = {
        name: json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
        for name in BACKENDS
    }
    parts = [INTRODUCTION]
    parts += [f"\n### {BACKENDS[b]}\n\n{outputs_table(t['outputs'])}" for b, t in measured.items()]
    parts += [ZEROS, "\n", zeros_table({b: t["zeros"] for b, t in measured.items()}), PAST]
    tables = {b: t["travel"] for b, t in measured.items()}
    parts += [TRAVEL, backends_table(tables, WAYS, KINDS_OF_MODEL)]
    tables = {b: t["computed"] for b, t in measured.items()}
    routes = {route: route for table in tables.values() for route in table}
    parts += [KERNELS, backends_table(tables, routes, {name: name for name in COMPUTED})]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
