"""The progress bar on a terminal and in a log."""

import io
import re

import pytest
import rich
from rich.console import Console

from rl2_lightning.callbacks.progress import IterationProgressBar
from tests.callbacks.tiny_fit import TinyAgent, TinyData, make_trainer


@pytest.fixture
def console(monkeypatch, request) -> io.StringIO:
    file = io.StringIO()
    console = Console(file=file, force_terminal=request.param, width=80)
    monkeypatch.setattr(rich, "_console", console)
    return file


def run(bar: IterationProgressBar, max_epochs: int = 5) -> None:
    trainer = make_trainer([bar], max_epochs)
    agent, data = TinyAgent(), TinyData()
    trainer.fit(agent, data)
    trainer.test(agent, data, verbose=False)


@pytest.mark.parametrize("console", [False], indirect=True)
def test_a_log_gets_plain_lines_now_and_then(console):
    run(IterationProgressBar())
    lines = console.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "iteration 0/5"
    shown = r"iteration 5/5  return 14  50.0% of greedy  [\d,]+ steps/s$"
    assert re.match(shown, lines[1])
    assert lines[2] == "testing on 8 held-out tasks"
    assert "\x1b" not in console.getvalue()


@pytest.mark.parametrize("console", [False], indirect=True)
def test_each_iteration_has_its_own_numbers(console):
    run(IterationProgressBar(seconds_between_lines=0.0), max_epochs=3)
    lines = console.getvalue().splitlines()
    words = [
        re.match(r"iteration (\d)/3(?:  return (\S+)  (\S+) of greedy  )?", line)
        for line in lines[:4]
    ]
    assert [word.groups() for word in words] == [
        ("0", None, None),
        ("1", "2", "10.0%"),
        ("2", "5", "20.0%"),
        ("3", "8", "30.0%"),
    ]
    assert re.search(r"0:00:0\d left$", lines[2])


@pytest.mark.parametrize("console", [True], indirect=True)
def test_a_terminal_gets_one_bar_that_ends_full(console):
    run(IterationProgressBar())
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.getvalue())
    assert re.search(
        r"iteration 5/5 ━{8} return 14  50.0% of greedy  [\d,]+ steps/s 0:00:0\d", text
    )


@pytest.mark.parametrize("console", [False], indirect=True)
def test_other_ranks_are_silent(console):
    bar = IterationProgressBar()
    bar.disable()
    run(bar)
    assert console.getvalue() == ""


@pytest.mark.parametrize("console", [True], indirect=True)
def test_the_terminal_is_given_back_when_a_run_breaks(console):
    class Broken(TinyAgent):
        def on_train_epoch_end(self):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        make_trainer([IterationProgressBar()], 2).fit(Broken(), TinyData())
    assert not rich.get_console()._live_stack
    assert console.getvalue().endswith("\x1b[?25h")  # the cursor is shown again
