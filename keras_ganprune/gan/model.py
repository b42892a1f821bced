"""`GANModel`: a generator and a discriminator that train each other inside `fit`."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import distribution, tracing
from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.gan import batch_checks, latents, losses
from keras_ganprune.gan import distillation as distillations
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import prunable_layers, walk
from keras_ganprune.layers.upgrade import add_masks, strip_pruning
from keras_ganprune.layers.weight_sharing import share_again, shared_positions, shared_weights
from keras_ganprune.training.discovery import optimizer_config, trained_variables
from keras_ganprune.training.nan_guard import NaNGuard
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import PACKAGE


def _step_module():
    """Return the module with the step of the running Keras backend."""
    backend = keras.backend.backend()
    try:
        return importlib.import_module(f"keras_ganprune.gan._step_{backend}")
    except ModuleNotFoundError as error:
        raise NotImplementedError(
            f"`GANModel` has no training step for the Keras backend '{backend}'. Set "
            "KERAS_BACKEND to 'tensorflow', 'jax' or 'torch' before Keras is imported."
        ) from error


@keras.saving.register_keras_serializable(package=PACKAGE)
class GANModel(keras.Model):
    """A generator and a discriminator, trained against each other by `fit`.

    `fit` takes images, or images and labels for a conditional GAN, as arrays, `tf.data` or a
    `PyDataset`. The logs hold `generator_loss`, `discriminator_loss`, `discriminator_real_accuracy`,
    `discriminator_fake_accuracy` and `balance_ratio`:

        balance_ratio = E[D(G_after(z)) - D(G_before(z))] / E[D(x) - D(G_before(z))]

    how much of the gap to real images one generator update closes.

    The networks may share layers or single kernels (`tie_mirrored`). Both optimizers then update the
    shared variable, each by its own network's use of it.

    Args:
        generator: Keras model, latent vectors (batch, latent_dim), or [latent vectors, labels], to
            images. Labels are whatever array `fit` gets: class numbers, or one-hot rows.
        discriminator: Keras model, images, or [images, labels], to one logit each (no activation).
        latent_dim: Positive int, length of a latent vector.
        loss: Name, config or `GANLoss`: 'non_saturating', 'minimax', 'hinge', 'least_squares',
            'wasserstein', 'relativistic'.
        discriminator_steps: Positive int, discriminator updates for each generator update.
        ema_decay: None, or float in (0, 1): keeps `ema_generator`, a moving average of the generator
            that `generate` then uses.
        gradient_penalty: Non-negative float, weight of (|dD/dx| - 1)^2 between real and fake images
            (WGAN-GP; 10 is usual).
        r1_penalty: Non-negative float, weight of |dD/dx|^2 / 2 on real images.
        label_smoothing: Float in [0, 1) by which the real label is below 1, for the losses with labels.
        conditional: Whether both networks take labels; None to tell from their number of inputs.
        balance_frequency: Int, generator steps between two measurements of the balance ratio
            (they cost about half a step each); 0 to leave it out.
        value_range: (low, high) that images should lie in, for a warning; None for no check.
        augmentation: None, or a Keras layer through which the discriminator sees images in training,
            real and generated alike, such as `DiffAugment()`. It needs a gradient.
        teacher: None, or a generator that `generator` is to stay close to on the same latent vectors:
            the dense one that it is pruned from. A frozen copy is kept, and saved with the model.
        distillation: Of a teacher: a `Distillation`, or a number, the weight of the distance between
            images; None for `Distillation()`. The logs then hold `distillation_loss`.
        seed: Int or None, of the latent vectors.

    Raises:
        InvalidArgumentError: an argument breaks its rule, or the networks do not fit together.
        UnbuiltModelError: a network has no weights and could not be built from `latent_dim`.

    Example:
    >>> g = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> d = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> gan = GANModel(g, d, latent_dim=8, seed=1)
    >>> gan.compile()
    >>> history = gan.fit(np.zeros((32, 4), "float32"), verbose=0)
    >>> gan.generate(3).shape
    (3, 4)

    References: [Generative adversarial nets](https://arxiv.org/abs/1406.2661);
    [WGAN-GP](https://arxiv.org/abs/1704.00028), Eq. 3;
    [R1](https://arxiv.org/abs/1801.04406), Eq. 9; balance ratio:
    [ADAPT](https://arxiv.org/abs/2302.14670).
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        latent_dim: int,
        loss: Any = "non_saturating",
        *,
        discriminator_steps: int = 1,
        ema_decay: float | None = None,
        gradient_penalty: float = 0.0,
        r1_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        conditional: bool | None = None,
        balance_frequency: int = 50,
        value_range: tuple[float, float] | None = (-1.0, 1.0),
        augmentation: keras.layers.Layer | None = None,
        teacher: keras.Model | None = None,
        distillation: Any = None,
        seed: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.latent_dim = validation.positive_int(latent_dim, "latent_dim")
        self.discriminator_steps = validation.positive_int(
            discriminator_steps, "discriminator_steps"
        )
        self.gradient_penalty = validation.non_negative(gradient_penalty, "gradient_penalty")
        self.r1_penalty = validation.non_negative(r1_penalty, "r1_penalty")
        self.balance_frequency = validation.non_negative_int(balance_frequency, "balance_frequency")
        self.ema_decay = batch_checks.ema_decay(ema_decay)
        self.value_range = None if value_range is None else validation.value_range(value_range)
        self.loss_pair = batch_checks.smoothed(losses.get(loss), label_smoothing)
        self.seed = seed
        self.generator = generator
        self.discriminator = discriminator
        self.conditional = batch_checks.conditional(generator, discriminator, conditional)
        batch_checks.networks_fit(generator, discriminator, self.latent_dim, self.conditional)
        self.ema_generator = self._make_average() if self.ema_decay is not None else None
        self.augmentation = batch_checks.augmentation(augmentation, discriminator)
        self._teaching = None
        self.noise_seed = keras.random.SeedGenerator(seed)
        self._trackers = {
            key: keras.metrics.Mean(name=key)
            for key in (
                "generator_loss",
                "discriminator_loss",
                "discriminator_real_accuracy",
                "discriminator_fake_accuracy",
            )
        }
        if self.balance_frequency:
            self._trackers["balance_ratio"] = _MeanOfMeasured(name="balance_ratio")
        self.generator_optimizer = None
        self.discriminator_optimizer = None
        self.built = True
        self.set_teacher(teacher, distillation)

    def _make_average(self) -> keras.Model:
        """Return a second generator with the same weights, for the moving average."""
        average = strip_pruning(self.generator)
        average.trainable = False
        return average

    # --- the two networks ------------------------------------------------------------------------

    def synthesize(self, z: Any, labels: Any = None, training: bool = False) -> Any:
        """Return the generator's images for latent vectors (batch, latent_dim)."""
        inputs = [z, labels] if self.conditional else z
        return self.generator(inputs, training=training)

    def judge(self, x: Any, labels: Any = None, training: bool = False) -> Any:
        """Return the discriminator's logits (batch, 1) for images; in training for augmented ones."""
        if training and self.augmentation is not None:
            x = self.augmentation(x, training=True)
        inputs = [x, labels] if self.conditional else x
        return self.discriminator(inputs, training=training)

    def distance_to_teacher(self, z: Any, labels: Any, images: Any) -> Any:
        """Return what the teacher adds to the generator's loss for its images, a scalar; None without."""
        if self._teaching is None:
            return None
        return self._teaching.distance(self, z, labels, images)

    @property
    def teacher(self) -> keras.Model | None:
        """The frozen generator that the generator is to stay close to, or None."""
        return None if self._teaching is None else self._teaching.teacher

    @property
    def distillation(self) -> distillations.Distillation | None:
        """How the distance to the teacher is measured, or None."""
        return None if self._teaching is None else self._teaching.distillation

    def set_teacher(self, teacher: keras.Model | None, distillation: Any = None) -> None:
        """Let the generator stay close to another one from now on, or, for None, to none any more.

        Args:
            teacher, distillation: As for `GANModel`.

        Raises: As `GANModel`.
        """
        self._teaching = distillations.teaching(self, teacher, distillation)
        self._trackers.pop("distillation_loss", None)
        if self._teaching is not None:
            self._trackers["distillation_loss"] = keras.metrics.Mean(name="distillation_loss")
        if getattr(self, "train_function", None) is not None:
            # A compiled step knows no teacher but the one that it was traced with.
            tracing.remake(self)

    def call(self, inputs, training=False):
        """Return the generator's images, so that `predict` works on latent vectors."""
        return self.generator(inputs, training=training)

    @property
    def shared_weights(self) -> list[keras.Variable]:
        """The trainable weights of the generator that the discriminator uses too."""
        return shared_weights(self.generator, self.discriminator)

    @property
    def sampler(self) -> keras.Model:
        """The network that `generate` uses: the averaged generator if there is one."""
        return self.generator if self.ema_generator is None else self.ema_generator

    def generate(
        self, n: int, labels: Any = None, seed: int | None = None, batch_size: int = 256
    ) -> np.ndarray:
        """Return `n` generated images.

        Args:
            n: Positive int.
            labels: For a conditional GAN, one label an image, as in `fit`.
            seed: Int for latent vectors that can be drawn again, or None.
            batch_size: Positive int, images a forward pass.

        Returns: float32 array (n, ...).
        """
        n = validation.positive_int(n, "n")
        batch_size = validation.positive_int(batch_size, "batch_size")
        labels = batch_checks.labels_for(n, labels, self.conditional)
        tracing.sync(self)
        z = latents.draw(n, self.latent_dim, seed)
        inputs = [z] if labels is None else [z, labels]
        return np.concatenate(list(latents.images_of(self.sampler, inputs, batch_size)))

    # --- training --------------------------------------------------------------------------------

    def compile(
        self,
        generator_optimizer: Any = None,
        discriminator_optimizer: Any = None,
        *,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Set the two optimizers.

        Args:
            generator_optimizer, discriminator_optimizer: Optimizers, names or configs. With neither,
                both are `Adam(2e-4, beta_1=0.5)`.
            **kwargs: `run_eagerly`, `jit_compile`, `steps_per_execution` of `keras.Model.compile`.

        Raises:
            InvalidArgumentError: only one optimizer, or one object for both networks.
        """
        pair = batch_checks.optimizers(generator_optimizer, discriminator_optimizer, optimizer)
        unknown = set(kwargs) - {"run_eagerly", "jit_compile", "steps_per_execution"}
        if unknown:
            raise InvalidArgumentError(
                f"`GANModel.compile` does not take {', '.join(sorted(unknown))}. The loss is an argument "
                "of `GANModel`; besides the optimizers, `run_eagerly`, `jit_compile` and "
                "`steps_per_execution` are taken."
            )
        # Before optimizers are built, which a strategy of TensorFlow refuses in words of its own.
        distribution.check_strategy(self, [*self.generator.weights, *self.discriminator.weights])
        # No `optimizer` of its own: Keras would build one over the weights of both networks.
        super().compile(optimizer=None, loss=None, **kwargs)
        self._compile_options = kwargs
        half = any(
            getattr(layer, "compute_dtype", None) == "float16"
            for network in (self.generator, self.discriminator)
            for layer in network._flatten_layers()
        )
        built = []
        for chosen, network in zip(pair, (self.generator, self.discriminator), strict=True):
            if half and not isinstance(chosen, keras.optimizers.LossScaleOptimizer):
                chosen = keras.optimizers.LossScaleOptimizer(chosen)
            if not chosen.built:
                # Built now, so that loading a file or `BackupAndRestore` finds their variables.
                chosen.build(network.trainable_variables)
            built.append(chosen)
        self.generator_optimizer, self.discriminator_optimizer = built
        if keras.backend.backend() == "jax":
            self.optimizer = _Both(*built)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        **kwargs,
    ):
        """Train, with the arguments of `keras.Model.fit`.

        The data is looked at first, and a `NaNGuard` is added to the callbacks.

        Raises:
            InvalidArgumentError: the model is not compiled, or was compiled for other weights.
            DataError: the data is empty, not finite, of the wrong shape, or its labels do not fit.
        """
        if self.generator_optimizer is None:
            raise InvalidArgumentError(
                "Call `gan.compile(generator_optimizer, discriminator_optimizer)` before `fit`."
            )
        self._check_optimizers()
        batch_checks.data(self, x, y)
        callbacks = self._with_guards(callbacks)
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def _check_optimizers(self) -> None:
        for name in ("generator", "discriminator"):
            optimizer = getattr(self, f"{name}_optimizer")
            known = trained_variables(getattr(optimizer, "inner_optimizer", optimizer))
            ids = {id(v) for v in known}
            new = [w.path for w in getattr(self, name).trainable_weights if id(w) not in ids]
            if known and new:
                raise InvalidArgumentError(
                    f"`{name}_optimizer` does not train the {name}'s weights {', '.join(new[:5])}: they "
                    "were tied, or made trainable, after `compile`. Call `gan.compile` again, with new "
                    "optimizers."
                )

    def _with_guards(self, callbacks: Any) -> Any:
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return callbacks
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        callbacks = list(callbacks or [])
        guards = [] if any(isinstance(c, NaNGuard) for c in callbacks) else [NaNGuard()]
        # First in the list: what they put into the weights is then masked by `Prune`.
        return [*guards, _FinalizeAverages(), *callbacks]

    def _symbolic_build(self, iterator=None, data_batch=None):
        # On JAX and PyTorch Keras calls a model with an unbuilt layer on a batch, here of images; but
        # the networks have their weights by now, and take latent vectors.
        self._post_build()

    # (data) -> logs; on JAX (state, data) -> logs, state.

    def train_step(self, *state_and_data):
        return _step_module().train_step(self, *state_and_data)

    def test_step(self, *state_and_data):
        return _step_module().test_step(self, *state_and_data)

    def adversarial_loss(self, data: Any) -> Any:
        """Return the generator's loss on fresh samples, as the discriminator judges it now.

        Both networks run in inference mode and without weight regularization, so that nothing changes
        but the state of `noise_seed`. The gradient by the generator's weights goes through the samples
        alone, also where the discriminator shares some of them.

        Args:
            data: A batch as `fit` gets it: images (batch, ...), which set the number of samples and are
                looked at only by a relativistic loss, or (images, labels).

        Returns: Scalar float32 tensor.
        """
        return _step_module().adversarial_loss(self, data)

    def unpack(self, data: Any) -> tuple[Any, Any]:
        """Return (images, labels or None) of one batch."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise DataError(
                "A GAN has no use for sample weights. Pass images, or images and labels."
            )
        if self.conditional and y is None:
            raise DataError(
                "The networks are conditional, but the data has no labels. "
                "Pass `gan.fit(images, labels)` or batches of (images, labels)."
            )
        if not self.conditional and y is not None:
            raise DataError(
                "The data has labels, but the networks take none. Pass the images alone, or networks "
                "with two inputs: [latent vectors, labels] and [images, labels]."
            )
        return x, y

    @property
    def metrics(self):
        return list(self._trackers.values())

    def log(
        self, d_loss, g_loss, real_logits, fake_logits, measured, batch, distance=None
    ) -> dict[str, Any]:
        """Update the running means and return them; `measured` is (due, before, after) or None."""
        real_accuracy, fake_accuracy = self.loss_pair.accuracy(real_logits, fake_logits)
        values = {
            "generator_loss": g_loss,
            "discriminator_loss": d_loss,
            "discriminator_real_accuracy": real_accuracy,
            "discriminator_fake_accuracy": fake_accuracy,
        }
        if distance is not None:
            values["distillation_loss"] = distance
        for key, value in values.items():
            self._trackers[key].update_state(value, sample_weight=batch)
        shown = dict(self._trackers)
        if distance is None:
            shown.pop("distillation_loss", None)
        if measured is None:
            shown.pop("balance_ratio", None)
        else:
            due, (fake_before, real), (fake_after, _) = measured
            gap = real - fake_before
            # A gap near zero says nothing about balance, and would drown the mean.
            usable = ops.logical_and(due, ops.abs(gap) > 1e-3)
            ratio = (fake_after - fake_before) / ops.where(usable, gap, ops.ones_like(gap))
            self._trackers["balance_ratio"].update_state(
                ratio, sample_weight=ops.cast(usable, "float32")
            )
        return {key: tracker.result() for key, tracker in shown.items()}

    # --- saving ----------------------------------------------------------------------------------

    def get_config(self):
        base = super().get_config()
        return {
            **{key: base[key] for key in ("name", "trainable", "dtype") if key in base},
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "latent_dim": self.latent_dim,
            "loss": keras.saving.serialize_keras_object(self.loss_pair),
            "discriminator_steps": self.discriminator_steps,
            "ema_decay": self.ema_decay,
            "gradient_penalty": self.gradient_penalty,
            "r1_penalty": self.r1_penalty,
            "conditional": self.conditional,
            "balance_frequency": self.balance_frequency,
            "value_range": self.value_range,
            "augmentation": None
            if self.augmentation is None
            else keras.saving.serialize_keras_object(self.augmentation),
            "seed": self.seed,
            **({} if self._teaching is None else self._teaching.get_config()),
            "pruned": self._pruned_positions(),
            "shared": shared_positions(self.generator, self.discriminator),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        pruned = config.pop("pruned", {})
        shared = config.pop("shared", {})
        for key in (
            "generator",
            "discriminator",
            "loss",
            "augmentation",
            "teacher",
            "distillation",
        ):
            if config.get(key) is not None:
                config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects)
        gan = cls(**config)
        gan._restore_prunable(pruned)
        # Keras makes the layers of two networks apart, also a layer that is in both.
        share_again(gan.generator, gan.discriminator, shared)
        return gan

    def _pruned_positions(self) -> dict[str, list[int]]:
        """Return where the Prunable layers of each network stand among its layers.

        A subclassed network makes its layers anew when it is loaded, as plain ones; these say which of
        them must be Prunable before the masks can be read. Not by name: Keras names layers anew too.
        """
        found = {}
        for name, network in self._networks().items():
            masked = {id(layer) for _, layer in prunable_layers(network)}
            found[name] = [i for i, (_, layer) in enumerate(walk(network)) if id(layer) in masked]
        return found

    def _networks(self) -> dict[str, keras.Model]:
        found = {"generator": self.generator, "discriminator": self.discriminator}
        return (
            found if self.ema_generator is None else {**found, "ema_generator": self.ema_generator}
        )

    def _restore_prunable(self, pruned: dict[str, list[int]]) -> None:
        for name, network in self._networks().items():
            layers = [layer for _, layer in walk(network)]
            for i in pruned.get(name, ()):
                if i < len(layers):
                    add_masks(layers[i], [])

    def get_compile_config(self):
        if self.generator_optimizer is None:
            return None
        return {
            "generator_optimizer": optimizer_config(self.generator_optimizer),
            "discriminator_optimizer": optimizer_config(self.discriminator_optimizer),
            **self._compile_options,
        }

    def compile_from_config(self, config):
        config = dict(config)
        for key in ("generator_optimizer", "discriminator_optimizer"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        self.compile(**config)

    def get_build_config(self):
        return None  # the networks carry their own

    def build_from_config(self, config):
        return

    def _random_state(self) -> list[keras.Variable]:
        """Return the states of all random generators, of dropout layers too; Keras does not save them."""
        saved = {id(v) for v in (*self.weights, *self.metrics_variables)}
        return [v for v in self.variables if id(v) not in saved]

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for i, state in enumerate(self._random_state()):
            store[f"random_{i}"] = to_numpy(state)
        # Not among the model's weights, since nothing of it is trained, pruned or exported.
        for i, weight in enumerate(self.teacher.weights if self.teacher else ()):
            store[f"teacher_{i}"] = to_numpy(weight)

    def load_own_variables(self, store):
        states = self._random_state()
        for i, state in enumerate(states):
            if f"random_{i}" in store.keys():
                state.assign(np.asarray(store[f"random_{i}"]))
        for i, weight in enumerate(self.teacher.weights if self.teacher else ()):
            if f"teacher_{i}" in store.keys():
                weight.assign(np.asarray(store[f"teacher_{i}"]))
        rest = {k: store[k] for k in store.keys() if not k.startswith(("random_", "teacher_"))}
        super().load_own_variables(rest)


class _Both:
    """Where Keras's loop on JAX looks for the state of one optimizer: that of two.

    Not an optimizer itself, so that files hold the two, and nothing else, as on any backend.
    """

    built = True

    def __init__(self, *optimizers: keras.optimizers.Optimizer):
        self.optimizers = optimizers

    @property
    def variables(self) -> list[keras.Variable]:
        return [v for optimizer in self.optimizers for v in optimizer.variables]


class _MeanOfMeasured(keras.metrics.Mean):
    """A mean of what is measured now and then: until the first value of an epoch, the last mean."""

    def reset_state(self):
        mean = self.result()
        # Of a diverged run nothing is carried on: NaN would be the mean for ever.
        known = ops.logical_and(self.count > 0, ops.isfinite(mean))
        # Next to nothing beside a real value, and yet the mean where there is none.
        # (Arrays, for JAX compiles the step anew where a number has no dtype of its own.)
        tiny, zero = (ops.full((), value, dtype=self.count.dtype) for value in (1e-6, 0.0))
        weight = ops.where(known, tiny, zero)
        self.total.assign(ops.where(known, weight * mean, zero))
        self.count.assign(weight)


class _FinalizeAverages(keras.callbacks.Callback):
    """Does for two optimizers with `use_ema` what Keras does for one: weights become their average."""

    def on_train_end(self, logs=None):
        for optimizer, network in (
            (self.model.generator_optimizer, self.model.generator),
            (self.model.discriminator_optimizer, self.model.discriminator),
        ):
            inner = getattr(optimizer, "inner_optimizer", optimizer)
            inner.finalize_variable_values(network.trainable_weights)
            if getattr(inner, "use_ema", False):
                # On JAX a weight would share its array with its average, and a step gives both away.
                for weight in network.trainable_weights:
                    weight.assign(ops.copy(weight.value))
