"""Configuration files of other folders run no code, unless the command says that it is trusted."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from rl2_lightning import look
from rl2_lightning.errors import UserError
from rl2_lightning.notebook import make_agent
from rl2_lightning.resumed_config import config_of
from rl2_lightning.trust import require_trusted_names
from tests.command_line.program import SMALL, call_program, mistake_told

MODULE = "a_strangers_module"
CODE = """
from pathlib import Path
Path({trace!r}).touch()
from rl2_lightning.agents.memories.gru import GRU
from lightning.pytorch import Callback
import gymnasium
class Memory(GRU):
    pass
class Watch(Callback):
    pass
def wrap(env):
    return env
"""
GLOBAL = "# @package _global_\n"
HYDRA = f"{GLOBAL}hydra:\n"
GYMNASIUM = f"{GLOBAL}defaults:\n  - override /env: gymnasium\nenv:\n"
TIMER = "watch: {_target_: lightning.pytorch.callbacks.Timer, duration: {_target_: INNER}}\n"
# The group and the text of a file; TRACE is the file that shows that code has run.
FILES = {
    "memory": ("memory", f"_target_: {MODULE}.Memory\nhidden_size: 8\nnum_layers: 1\n"),
    "a function": ("memory", "_target_: os.system\nhidden_size: touch TRACE\n"),
    "a callback": ("callbacks", f"watch: {{_target_: {MODULE}.Watch}}\n"),
    "within a callback": (
        "callbacks",
        TIMER.replace("INNER", "builtins.open, file: TRACE, mode: w"),
    ),
    "by reference": (
        "experiment",
        GLOBAL + f"callbacks:\n  watch: {{_target_: '{MODULE}.${{oc.decode:Watch}}'}}\n",
    ),
    "made in a reference": (
        "experiment",
        GLOBAL + 'callbacks:\n  watch: "${oc.create:{_target_: ' + MODULE + '.Watch}}"\n',
    ),
    "through a module of ours": (
        "callbacks",
        TIMER.replace("INNER", "rl2_lightning.callbacks.files.os.system, command: touch TRACE"),
    ),
    "a function of ours": ("callbacks", TIMER.replace("INNER", "rl2_lightning.notebook.train")),
    "an environment": ("experiment", f"{GYMNASIUM}  id: {MODULE}:make\n"),
    "a wrapper": (
        "experiment",
        f"{GYMNASIUM}  wrappers: [{{name: '{MODULE}:wrap', kwargs: {{}}}}]\n",
    ),
    "Hydra's callback": (
        "experiment",
        f"{HYDRA}  callbacks:\n    bad: {{_target_: {MODULE}.Watch}}\n",
    ),
    "Hydra's logging": (
        "experiment",
        f"{HYDRA}  job_logging: {{version: 1, handlers: {{bad: {{(): {MODULE}.wrap}}}}}}\n",
    ),
    "Hydra's launcher": ("experiment", f"{HYDRA}  launcher:\n    _target_: {MODULE}.Memory\n"),
    "a variable": ("experiment", f"{HYDRA}  job:\n    env_set: {{PYTHONPATH: /tmp}}\n"),
    "trust in itself": (
        "experiment",
        f"{GLOBAL}trust_targets: [{MODULE}]\nmemory:\n  _target_: {MODULE}.Memory\n",
    ),
    "an object of YAML": (
        "experiment",
        f"{GLOBAL}seed: !!python/object/apply:os.system ['touch TRACE']\n",
    ),
}
CHOICE = {"callbacks": "callbacks=strange", "memory": "memory=strange"}


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once a stranger's code has run; Python finds its module."""
    trace = tmp_path / "trace"
    modules = tmp_path / "installed"
    modules.mkdir()
    (modules / f"{MODULE}.py").write_text(CODE.format(trace=str(trace)))
    monkeypatch.syspath_prepend(modules)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return trace


def given(folder: Path, kind: str, trace: Path) -> tuple[str, ...]:
    """The arguments of a command with a stranger's file."""
    group, text = FILES[kind]
    place = folder / "configs" / group
    place.mkdir(parents=True, exist_ok=True)
    (place / "strange.yaml").write_text(text.replace("TRACE", str(trace)))
    choice = CHOICE.get(group, "experiment=strange")
    return (f"--config-dir={folder / 'configs'}", *SMALL, choice)


@pytest.mark.parametrize("kind", FILES)
def test_no_code_of_a_strangers_file_runs(tmp_path: Path, trace: Path, kind: str) -> None:
    line = mistake_told(tmp_path, *given(tmp_path, kind, trace), "trainer.max_epochs=1")
    assert not trace.exists()
    assert MODULE not in sys.modules
    assert line.endswith("]") or "is no valid YAML" in line
    assert not (tmp_path / "outputs").exists()


def test_a_sweep_is_looked_at_value_by_value(tmp_path: Path, trace: Path) -> None:
    *arguments, choice = given(tmp_path, "Hydra's callback", trace)
    line = mistake_told(tmp_path, "-m", *arguments, f"{choice},default")
    assert "hydra.callbacks is set by a file" in line
    assert not trace.exists()


@pytest.mark.parametrize("by", ["trust_targets", "name", "PYTHONPATH"])
def test_what_the_command_trusts_runs(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    arguments = [*given(tmp_path, "memory", trace), f"hydra.run.dir={tmp_path / 'run'}"]
    if by == "PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    else:
        named = {"trust_targets": f"trust_targets=[{MODULE}]"}
        arguments.append(named.get(by, f"memory._target_={MODULE}.Memory"))
    call_program(tmp_path, *arguments)
    assert trace.exists()


def test_a_module_of_python_is_not_the_users(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "installed" / "subprocess.py").touch()  # not imported: Python has its own
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    arguments = given(tmp_path, "memory", trace)
    file = tmp_path / "configs" / "memory" / "strange.yaml"
    file.write_text(file.read_text().replace(f"{MODULE}.Memory", "subprocess.Popen"))
    assert "subprocess.Popen stands in a file" in mistake_told(tmp_path, *arguments)


@pytest.mark.parametrize(
    ("name", "trusted"),
    [
        (f"{MODULE}.Memory", MODULE[:-1]),
        (f"{MODULE}.gymnasium.os.system", MODULE),
        ("rl2_lightning.callbacks.files.os.system", "rl2_lightning.callbacks"),
    ],
)
def test_a_module_is_trusted_as_a_whole_and_without_what_it_imports(
    name: str, trusted: str, trace: Path
) -> None:
    cfg = OmegaConf.create({"memory": {"_target_": name}})
    with pytest.raises(UserError, match=rf"memory._target_={name} stands in a file"):
        require_trusted_names(cfg, [f"trust_targets=[{trusted}]"])
    require_trusted_names(cfg, [f"trust_targets=[{name}]"])


@pytest.mark.parametrize(
    "flag", ["--config-path=x", "-cn=x", "--config-name=x", "--experimental-rerun=job.pickle"]
)
def test_flags_that_replace_the_configuration(tmp_path: Path, flag: str) -> None:
    name = flag.partition("=")[0]
    line = mistake_told(tmp_path, *SMALL, *((name, "x") if name == "-cn" else (flag,)))
    assert " is refused: " in line


@pytest.fixture
def of_stranger(tmp_path: Path, finished_run: Path) -> Path:
    """A checkpoint that names the memory of the stranger's file."""
    content = torch.load(finished_run / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["memory"]["_target_"] = f"{MODULE}.Memory"
    torch.save(content, tmp_path / "strange.ckpt")
    return tmp_path / "strange.ckpt"


def test_looking_at_an_agent_runs_no_code_of_a_strangers_file(
    tmp_path: Path, trace: Path, of_stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, *_ = given(tmp_path, "memory", trace)
    arguments = ["look", folder, f"ckpt_path={of_stranger}", "num_tasks=4"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match=rf"memory\._target_=.* add trust_targets=\[{MODULE}\]$"):
        look.main()
    assert not trace.exists()
    assert not (tmp_path / "look").exists()
    monkeypatch.setattr(sys, "argv", [*arguments, f"trust_targets=[{MODULE}]"])
    assert config_of(str(of_stranger)).memory["_target_"] == f"{MODULE}.Memory"


def test_a_folder_given_to_python_runs_no_code_of_its_choice(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, "memory", trace)
    make = partial(make_agent, overrides=["memory=strange"], config_dir=tmp_path / "configs")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "prefix", str(tmp_path / "installed"))
        with pytest.raises(UserError, match=rf"memory\._target_={MODULE}\.Memory stands in"):
            make()
        assert not trace.exists()
        make(overrides=["memory=strange", f"trust_targets=[{MODULE}]"])
    assert trace.exists()
    make()  # it lies in a folder of `sys.path` that is not Python's
