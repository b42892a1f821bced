"""A real PostgreSQL server on the loopback interface, for as long as a test needs it."""

import contextlib
import getpass
import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest


def _program(name):
    """Return the path of a program of PostgreSQL, or None. Debian's are not on the path."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def _driver():
    """Return the name of a driver of SQLAlchemy that is installed, or None."""
    names = ("psycopg", "psycopg2", "pg8000")
    return next((name for name in names if importlib.util.find_spec(name)), None)


@contextlib.contextmanager
def server():
    """Yield the URL of an empty database. Skip the test where there is no server, driver or user for it."""
    initdb, postgres, driver = _program("initdb"), _program("postgres"), _driver()
    if not (initdb and postgres):
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if driver is None:
        pytest.skip("no driver is installed (pip install 'psycopg[binary]')")
    # The server does not run as root; Debian's package has made a user for it.
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ganprune_postgres_"))
    try:
        try:
            shutil.chown(folder, user)
        except LookupError:
            pytest.skip(f"there is no user '{user}' for the server")
        options = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL}
        subprocess.run(
            [initdb, "-D", folder / "data", "-U", "sweep", "--auth=trust", "--no-sync"],
            check=True,
            **options,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [postgres, "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", ""],
            stderr=subprocess.DEVNULL,
            **options,
        )
        try:
            _wait_until_it_answers(process, port)
            yield f"postgresql+{driver}://sweep@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # also if clients are connected
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_answers(process, port):
    ends = time.monotonic() + 60
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(1)  # It accepts connections a moment before it serves them.
            return
        time.sleep(0.1)
    raise RuntimeError("the server of PostgreSQL did not start")
