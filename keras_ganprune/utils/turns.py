"""Times of functions that run in random turns, so that other load on the machine affects all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

# Each timed sample repeats the call until it takes so long, as a clock cannot time a few microseconds.
_SAMPLE_SECONDS = 0.01
_FEWEST_ROUNDS = 7


def in_turns(
    functions: Sequence[Callable[[], object]], seed: int, seconds: float, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of functions that run in turns, in an order that is drawn for each round.

    Args:
        functions: Functions without arguments, which return when their result is ready.
        seed: Int, seed of the order.
        seconds: Float, time for each function. At least 7 rounds are measured.
        rounds: Int, at most so many rounds.

    Returns:
        Two float arrays (functions, rounds): seconds per call, and CPU seconds of all threads per call.

    Example:
    >>> wall, cpu = in_turns([lambda: None, lambda: None], 0, 0.01, 10)
    >>> wall.shape == cpu.shape, bool((wall > 0).all())
    (True, True)
    """
    repeats = []
    for function in functions:
        function()
        begin = time.perf_counter()
        function()
        repeats.append(max(1, round(_SAMPLE_SECONDS / max(1e-9, time.perf_counter() - begin))))
    wall: list[list[float]] = [[] for _ in functions]
    cpu: list[list[float]] = [[] for _ in functions]
    rng, begin = np.random.default_rng(seed), time.perf_counter()
    while len(wall[0]) < rounds and (
        len(wall[0]) < _FEWEST_ROUNDS or time.perf_counter() - begin < seconds * len(functions)
    ):
        for place in rng.permutation(len(functions)):
            functions[place]()  # what the one before has left in the caches is not its fault
            started, used = time.perf_counter(), time.process_time()
            for _ in range(repeats[place]):
                functions[place]()
            wall[place].append((time.perf_counter() - started) / repeats[place])
            cpu[place].append((time.process_time() - used) / repeats[place])
    return np.array(wall), np.array(cpu)
