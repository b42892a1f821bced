"""Chains of processes that are killed and begun again, compared with one that is not killed."""

import os
import signal
import subprocess
import sys

import numpy as np
import paths


class KillChains:
    """Runs a script of this folder as `SCRIPT KIND FOLDER KILL_AT`, which writes `end.npz` at its end.

    Args:
        script: Name of the script.
        timeout: Seconds that one process may take.
        new_folder: Function: kind -> a new folder.
    """

    def __init__(self, script, timeout, new_folder):
        self.script, self.timeout, self.new_folder = paths.HELPERS / script, timeout, new_folder
        self._uninterrupted = {}

    def start(self, kind, folder, kill_at):
        path = os.pathsep.join([str(paths.ROOT), str(paths.HELPERS)])
        return subprocess.run(
            [sys.executable, str(self.script), kind, str(folder), str(kill_at)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=self.timeout,
        )

    def end(self, kind, folder):
        """Run to the end without a kill; return the arrays by name."""
        process = self.start(kind, folder, 0)
        assert process.returncode == 0, process.stderr[-3000:]
        with np.load(folder / "end.npz") as arrays:
            return dict(arrays)

    def check(self, kind, chain, folder):
        """Kill at each number of the chain, run to the end, and compare every bit."""
        if kind not in self._uninterrupted:
            self._uninterrupted[kind] = self.end(kind, self.new_folder(kind))
        expected = self._uninterrupted[kind]
        for kill_at in chain:
            killed = self.start(kind, folder, kill_at)
            assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
        found = self.end(kind, folder)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
