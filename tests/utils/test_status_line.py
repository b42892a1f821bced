"""The line that says what goes on: in terminals of all widths, in notebooks, and in plain output."""

import io
import sys
import types

import pytest
import screens

from keras_ganprune.utils import status_line, terminal
from keras_ganprune.utils.closing import closing, folded
from keras_ganprune.utils.durations import duration
from keras_ganprune.utils.status_line import Status, StatusLine
from keras_ganprune.utils.terminal_line import TerminalLine


class Terminal(io.StringIO):
    """An output that says it is a terminal, and its screen."""

    encoding = "utf-8"

    def __init__(self, columns):
        super().__init__()
        self.screen = screens.Screen(columns)

    def isatty(self):
        return True

    @property
    def text(self):
        """The lines of the screen that are not empty."""
        stream = screens.pyte.Stream(self.screen)
        stream.feed(self.getvalue().replace("\n", "\r\n"))
        self.truncate(0)
        self.seek(0)
        return self.screen.text


@pytest.fixture
def terminal_of(monkeypatch):
    """Return a function that puts a terminal in the place of both outputs."""

    def put(columns=40):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(status_line, "_REDRAW", 0.0)
        monkeypatch.setattr(TerminalLine, "_shared", None)
        output = Terminal(columns)
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", output)
        return output

    return put


def status(text, share=None):
    return Status(lambda columns: text, share)


def test_it_is_redrawn_in_place(terminal_of):
    shown = terminal_of()
    line = StatusLine()
    for text in ("a long text of many words", "short", "third"):
        line.show(status(text))
        assert shown.text == [text]
    line.close(status("the end"))
    print("below")
    assert shown.text == ["the end", "below"]
    assert shown.screen.wraps == shown.screen.scrolls == 0
    assert sys.stdout is shown and sys.stderr is shown


def test_without_a_last_text_nothing_stays(terminal_of):
    shown = terminal_of()
    line = StatusLine()
    line.show(status("now"))
    line.close()
    print("below")
    assert shown.text == ["below"] and shown.screen.cursor.y == 1


def test_whoever_prints_gets_an_empty_line(terminal_of):
    shown = terminal_of()
    line = StatusLine()
    line.show(status("step 1"))
    print("Prune: a remark.")
    assert shown.text == ["Prune: a remark."]
    line.show(status("step 2"))
    assert shown.text == ["Prune: a remark.", "step 2"]
    print("without an end", end="", file=sys.stderr)
    line.show(status("step 3"))
    assert shown.text == ["Prune: a remark.", "without an end", "step 3"]
    line.say("stays")
    line.show(status("step 4"))
    assert shown.text == ["Prune: a remark.", "without an end", "stays", "step 4"]
    line.close()


def test_two_lines_share_the_last_line_of_the_terminal(terminal_of):
    shown = terminal_of()
    first, second = StatusLine(), StatusLine()
    first.show(status("the first"))
    second.show(status("the second"))
    assert shown.text == ["the second"]
    second.close()
    first.show(status("again"))
    first.close()
    assert sys.stdout is shown


@pytest.mark.parametrize("columns", [10, 40, 80, 160])
def test_it_never_wraps(columns, terminal_of):
    shown = terminal_of(columns)
    line = StatusLine()
    for text in ("x" * 500, "日本語" * 90, "two\nlines\tand a tab", "é" * 79):
        line.show(status(text))
        assert len(shown.text) == 1
    line.close()
    # A terminal writes '^C' behind the line when Ctrl-C is typed.
    line.show(status("x" * 500))
    sys.stdout.stream.write("^C")
    assert len(shown.text) == 1
    print("next")
    assert shown.text[-1] == "next"
    assert not shown.screen.wraps
    line.close()


def test_it_writes_no_escape_sequences(terminal_of):
    shown = terminal_of()
    line = StatusLine()
    line.show(status("one"))
    line.show(status("two and more"))
    line.close(status("end"))
    written = shown.getvalue()
    assert "\x1b" not in written and {c for c in written if not c.isprintable()} == {"\r", "\n"}


def test_a_terminal_that_knows_ascii_only(terminal_of, monkeypatch):
    shown = terminal_of()
    monkeypatch.setattr(shown, "encoding", "ascii", raising=False)
    StatusLine().show(status("2 × 3 …"))
    assert shown.text == ["2 x 3 ..."]
    TerminalLine.shared().end()


def test_a_stage_is_named_while_it_lasts(terminal_of):
    shown = terminal_of()
    line = StatusLine()
    with line.doing("Measuring the quality"):
        assert shown.text == ["Measuring the quality ..."]
    assert shown.text == []
    with pytest.raises(KeyboardInterrupt), line.doing("Exporting"):
        raise KeyboardInterrupt
    assert shown.text == [] and sys.stdout is shown


def test_it_is_drawn_at_most_ten_times_a_second(terminal_of, monkeypatch):
    shown = terminal_of()
    monkeypatch.setattr(status_line, "_REDRAW", 0.1)
    clock = iter([0.0] + [i * 0.001 for i in range(100)] * 3)
    monkeypatch.setattr(status_line.time, "perf_counter", lambda: 100 + next(clock))
    line = StatusLine()
    for i in range(50):
        line.show(status(f"step {i}"))
    assert shown.text == ["step 0"]
    line.show(status("now"), now=True)
    assert shown.text == ["now"]
    line.close()


# --- plain lines ------------------------------------------------------------------------------------


def test_plain_lines_are_rare(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(status_line.time, "perf_counter", lambda: now[0])
    line = StatusLine()
    for step in range(1001):  # 100 s
        now[0] = step / 10
        line.show(status(f"step {step}", step / 1000))
    line.close(status("step 1000"))
    # The first, one per 10 s (which are 10 % here), and the last, once.
    steps = ["step 0", *(f"step {k}" for k in range(100, 1001, 100))]
    assert capsys.readouterr().out.splitlines() == steps
    line = StatusLine()
    for step in range(1001):  # 10,000 s: one per 10 %
        now[0] = step * 10.0
        line.show(status(f"step {step}", step / 1000))
    assert len(capsys.readouterr().out.splitlines()) == 11
    line = StatusLine()
    for step in range(100_000):  # of unknown length, 28 h: rarer and rarer
        now[0] = 20_000 + step
        line.show(status(f"step {step}"))
    assert len(capsys.readouterr().out.splitlines()) < 100
    line.show(status("something else"), begins=True)
    assert capsys.readouterr().out == "something else\n"


def test_output_that_is_no_terminal_is_plain(monkeypatch):
    class Broken:
        def isatty(self):
            raise ValueError("closed")

    for stream in (io.StringIO(), None, Broken(), object()):
        monkeypatch.setattr(sys, "stdout", stream)
        assert not terminal.is_terminal() and terminal.columns() is None
    monkeypatch.setattr(sys, "stdout", Terminal(80))
    assert terminal.is_terminal()
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.is_terminal()


def test_nothing_is_shown_if_it_is_not_enabled(capsys):
    line = StatusLine(enabled=False)
    line.say("a")
    line.show(status("b"), begins=True)
    with line.doing("c"):
        pass
    line.close(status("d"))
    assert capsys.readouterr().out == ""


# --- notebooks --------------------------------------------------------------------------------------


def test_a_notebook_updates_one_output(monkeypatch, capsys):
    display = pytest.importorskip("IPython.display")
    pages = []
    handle = types.SimpleNamespace(update=lambda page: pages.append(("update", page.data)))

    def shown(page, display_id):
        pages.append(("new", page.data))
        return handle

    monkeypatch.setattr(display, "display", shown)
    monkeypatch.setattr(status_line, "_NOTEBOOK", 0.0)
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    line = StatusLine()
    line.show(status("a < b", 0.25))
    line.show(status("later", 0.5))
    line.close(status("end", 1.0))
    assert [kind for kind, _ in pages] == ["new", "update", "update"]
    assert "a &lt; b" in pages[0][1] and 'value="0.250"' in pages[0][1]
    assert "<script" not in "".join(page for _, page in pages)
    with line.doing("Exporting"):
        pass
    assert pages[-2][0] == "new" and pages[-1] == ("update", "")
    assert capsys.readouterr().out == ""


# --- in a real terminal -----------------------------------------------------------------------------

PROGRAM = """
import sys, time
from keras_ganprune.utils import status_line
from keras_ganprune.utils.status_line import Status, StatusLine
status_line._REDRAW = 0.0
print("BEGIN")
line = StatusLine()
for i in range(200):
    line.show(Status(lambda columns: f"step {i} | " + "x" * 300))
    if i == 100:
        print("a remark", file=sys.stderr)
if "raise" in sys.argv:
    raise ValueError("no more")
if "wait" in sys.argv:
    time.sleep(60)
if "end" not in sys.argv:
    line.close(Status(lambda columns: "done"))
    print("END")
"""


@pytest.mark.parametrize("columns", [80, pytest.param(160, marks=pytest.mark.full)])
@pytest.mark.full
def test_a_terminal_neither_wraps_nor_scrolls(columns):
    seen = screens.run(["-c", PROGRAM], columns)
    begin = seen.screen.text.index("BEGIN")
    assert seen.screen.text[begin:] == ["BEGIN", "a remark", "done", "END"] and seen.code == 0
    assert any(line.startswith("step 199 | xxx") for line in seen.lines)
    assert max(len(line) for line in seen.lines if line.startswith("step")) == columns - 3
    assert "\x1b" not in seen.output


@pytest.mark.parametrize(
    "how", ["wait", *(pytest.param(x, marks=pytest.mark.full) for x in ("raise", "end"))]
)
@pytest.mark.full
def test_the_line_ends_with_the_program(how):
    """After an error, after Ctrl-C, and where nobody closes it."""
    interrupt = "step 199" if how == "wait" else None
    seen = screens.run(["-c", PROGRAM, how], 80, interrupt=interrupt)
    text = seen.screen.text
    if how == "end":
        assert text[-1].startswith("step 199 | xxx") and seen.screen.cursor.x == 0
    else:
        last = "ValueError: no more" if how == "raise" else "KeyboardInterrupt"
        begin = text.index("Traceback (most recent call last):")
        assert text[-1] == last and text[begin - 1] == "a remark"
        assert seen.code == (1 if how == "raise" else -2)


# --- texts ------------------------------------------------------------------------------------------


def test_durations():
    assert [duration(s) for s in (0.4, 119, 121, 7199, 7201)] == [
        *("0 s", "119 s", "2 min", "120 min", "2.0 h"),
    ]


def test_the_last_lines_fit_the_terminal(terminal_of):
    terminal_of()
    text = "word " * 20
    assert max(len(line) for line in folded(text).splitlines()) <= 40
    path = "a/" * 40
    lines = closing(text, text, ["report", path]).splitlines()
    assert lines[-1] == f"Next: keras-ganprune report {path}"
    assert [line.split(":")[0] for line in lines if ":" in line] == ["Made", "Worth", "Next"]
