"""Compresses a model, and kills itself at a batch on request.

Usage: compress_script.py KIND FOLDER KILL_AT_BATCH|0
"""

import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import compressed_models as models
import keras
import numpy as np
from interruptions import KillAt

import keras_ganprune as kgp

KINDS = {
    "gan_sparsity": (models.gan_model, {"sparsity": 0.8}),
    "gan_budget": (models.gan_model, {"budget": kgp.Budget(macs=0.4)}),
    "classifier_sparsity": (models.classifier, {"sparsity": 0.8}),
    "classifier_budget": (models.classifier, {"budget": kgp.Budget(macs=0.4)}),
    "wgan_gp_budget": (models.wgan_gp, {"budget": kgp.Budget(macs=0.4)}),
    "wgan_gp_sparsity": (models.wgan_gp, {"sparsity": 0.8}),
    # A class whose copy cannot be trained, so that the model itself is.
    "held_sparsity": (models.gan_with_a_function, {"sparsity": 0.8}),
    # A class whose copy is trained to the end until it is seen that the model has changed.
    "noticed_sparsity": (models.gan_with_an_average, {"sparsity": 0.8}),
    # The goal does not hold, one of the candidates does, and harder ones are tried after it.
    "classifier_tolerance": (models.classifier, {"sparsity": 0.6, "tolerance": 0.45}),
}


class KillAtAny(KillAt):
    """Counts the batches of all trainings: `compress` gives each training a copy of a callback."""

    def __deepcopy__(self, memo):
        return self


if __name__ == "__main__":
    kind, folder, kill_at = sys.argv[1:]
    make, request = KINDS[kind]
    model, data = models.trained(make)
    gan = not isinstance(model, keras.Sequential)
    settings = {"metric": models.spread, "higher_is_better": True} if gan else {}
    if "tolerance" in request:
        settings = {"metric": models.density}
    callbacks = [KillAtAny(int(kill_at))] if int(kill_at) else []
    result = kgp.compress(
        model,
        data,
        epochs=4,
        batch_size=16,
        verbose=0,
        folder=pathlib.Path(folder) / "state",
        callbacks=callbacks,
        **request,
        **settings,
    )
    arrays = [keras.ops.convert_to_numpy(v) for v in result.network.variables]
    history = {f"log of {name}": values for name, values in result.history.items()}
    np.savez(
        pathlib.Path(folder) / "end.npz", *arrays, **result.after, **history, notes=result.notes
    )
