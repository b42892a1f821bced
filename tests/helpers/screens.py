"""Programs in a terminal: a pseudo-terminal, and a model of its screen."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pyte

ROWS = 24


class Screen(pyte.Screen):
    """A screen that counts its wrapped lines and the lines that have left it at the top.

    Attributes:
        wraps: Number of lines that were longer than the screen is wide.
        scrolls: Number of lines that have left it at the top.
    """

    def __init__(self, columns):
        super().__init__(columns, ROWS)
        self.wraps = self.scrolls = 0
        self._draws = False

    def draw(self, data):
        """Draw text; a line feed meanwhile is a wrap."""
        self._draws = True
        super().draw(data)
        self._draws = False

    def linefeed(self):
        """Go to the next line."""
        self.wraps += self._draws
        super().linefeed()

    def index(self):
        """Go down by a line."""
        self.scrolls += self.cursor.y == ROWS - 1
        super().index()

    @property
    def text(self):
        """The lines that are not empty."""
        return [line.rstrip() for line in self.display if line.strip()]


class Seen:
    """What a program has shown.

    Attributes:
        screen: The `Screen` at its end.
        lines: All different texts that the lines have had, in order.
        output: Everything that was written.
        code: The exit code.
    """

    def __init__(self, screen, lines, output, code):
        self.screen, self.lines, self.output, self.code = screen, lines, output, code


def _in_a_terminal():
    """Make the process that is started one that a person would have started."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # A test that runs in the background of a shell ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(arguments, columns, cwd=None, interrupt=None, errors=True, seconds=300):
    """Run Python with arguments in a terminal.

    Args:
        arguments: Arguments of the interpreter.
        columns: Width of the terminal.
        cwd: Folder to run in.
        interrupt: Text; Ctrl-C is typed when it is on the screen.
        errors: Whether stderr is the terminal, too. Otherwise it is thrown away, with TensorFlow's lines.
        seconds: The longest time.
    """
    main, side = pty.openpty()
    size = struct.pack("HHHH", ROWS, columns, 0, 0)
    fcntl.ioctl(side, termios.TIOCSWINSZ, size)
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=side,
        stdout=side,
        stderr=side if errors else subprocess.DEVNULL,
        cwd=cwd,
        env=variables | {"TERM": "xterm"},
        start_new_session=True,
        preexec_fn=_in_a_terminal,
    )
    os.close(side)
    screen = Screen(columns)
    stream = pyte.ByteStream(screen)
    lines, output, end = {}, b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if not select.select([main], [], [], 1.0)[0]:
            continue
        try:
            data = os.read(main, 4096)
        except OSError:  # the program has ended
            break
        if not data:
            break
        output += data
        # Piece by piece, so that no drawing is missed.
        for piece in data.replace(b"\r", b"\x00\r").split(b"\x00"):
            stream.feed(piece)
            lines.update(dict.fromkeys(screen.text))
        if interrupt is not None and any(interrupt in line for line in screen.text):
            os.write(main, b"\x03")
            interrupt = None
    else:
        process.kill()
    os.close(main)
    return Seen(screen, list(lines), output.decode(errors="replace"), process.wait())
