"""The order of channels is that of torch-pruning's own code, on equal weights and gradients.

Needs `pip install torch-pruning`; skipped without it.
"""

import numpy as np
import pytest

from keras_ganprune.pruning.criteria import LAMP, Fisher, GeometricMedian, Magnitude, Taylor
from keras_ganprune.pruning.granularity import Channel

pytestmark = pytest.mark.full

# Per layer: our channel axis of a Keras kernel, and how the Keras kernel becomes one of PyTorch.
LAYERS = {
    "Conv2d": (-1, lambda k: k.transpose(3, 2, 0, 1), (3, 3, 4, 16)),
    "ConvTranspose2d": (-2, lambda k: k.transpose(3, 2, 0, 1), (4, 4, 16, 6)),
    "Linear": (-1, lambda k: k.T, (12, 16)),
}
CRITERIA = {
    "l1": (Magnitude("l1"), lambda tp: tp.importance.MagnitudeImportance(p=1, normalizer=None)),
    "l2": (Magnitude("l2"), lambda tp: tp.importance.MagnitudeImportance(p=2, normalizer=None)),
    "lamp": (LAMP(), lambda tp: tp.importance.LAMPImportance(p=2)),
    "fpgm": (GeometricMedian(), lambda tp: tp.importance.FPGMImportance(p=1, normalizer=None)),
    "taylor": (Taylor(), lambda tp: tp.importance.TaylorImportance(normalizer=None)),
    "fisher": (Fisher(), lambda tp: tp.importance.HessianImportance(normalizer=None)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", CRITERIA)
def test_order_of_channels(name, layer):
    tp = pytest.importorskip("torch_pruning")
    torch = pytest.importorskip("torch")
    axis, convert, shape = LAYERS[layer]
    draw = np.random.default_rng(len(name) + len(layer))
    kernel, gradient = (draw.normal(size=shape).astype("float32") for _ in range(2))
    if name == "fpgm":
        kernel = np.abs(kernel)  # they take distances of |w|, the paper and we those of w
    if layer == "Linear":
        module, inputs = torch.nn.Linear(12, 16, bias=False), torch.zeros(1, 12)
    elif layer == "Conv2d":
        module, inputs = torch.nn.Conv2d(4, 16, 3, bias=False), torch.zeros(1, 4, 5, 5)
    else:
        module, inputs = torch.nn.ConvTranspose2d(6, 16, 4, bias=False), torch.zeros(1, 6, 5, 5)
    module.weight.data = torch.tensor(convert(kernel).copy())
    # Their Hessian takes squared gradients where their Taylor takes gradients.
    slopes = gradient**2 if name == "fisher" else gradient
    module.weight.grad = torch.tensor(convert(slopes).copy())
    model = torch.nn.Sequential(module)
    graph = tp.DependencyGraph().build_dependency(model, inputs)
    prune = tp.prune_linear_out_channels if layer == "Linear" else tp.prune_conv_out_channels
    group = graph.get_pruning_group(module, prune, idxs=list(range(16)))
    criterion, theirs = CRITERIA[name]
    importance = theirs(tp)(group).detach().numpy()
    scores = criterion.unit_scores(kernel, np.abs(gradient), Channel(axis))
    assert np.argsort(scores).tolist() == np.argsort(importance).tolist()
    if name in ("l1", "lamp", "taylor"):  # the others differ by a power or a factor
        np.testing.assert_allclose(scores / scores.sum(), importance / importance.sum(), rtol=1e-4)
