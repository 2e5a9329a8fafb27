"""Checkpoints that a run cannot use are reported in one line with cause, value and remedy."""

from pathlib import Path

import pytest
import torch

from tests.command_line.program import PLAIN, call_program, mistake_told, run_program


def test_weights_that_do_not_fit_other_sizes(tmp_path: Path, finished_run: Path) -> None:
    checkpoint = finished_run / "last.ckpt"
    given = (*PLAIN, "mode=test", f"ckpt_path={checkpoint}", "evaluation.other_sizes=true")
    told = mistake_told(tmp_path, *given, "env.num_arms=3")
    assert told.startswith(f"error: ckpt_path={checkpoint} has agent.")
    assert told.endswith("change only fields of env that leave these alone")
    assert "was trained with env._target_" in mistake_told(tmp_path, *given, "env=two_step")


def test_an_agent_that_asks_plays_any_number_of_arms(tmp_path: Path) -> None:
    given = (*PLAIN, "agent.policy_head=action_queries", "agent.policy_hidden_sizes=[8]")
    call_program(tmp_path, *given, f"hydra.run.dir={tmp_path}")
    checkpoint = f"ckpt_path={tmp_path / 'last.ckpt'}"
    tested = (*given, checkpoint, "env.num_arms=70", "mode=test", "evaluation.other_sizes=true")
    folder = tmp_path / "of_70"
    call_program(tmp_path, *tested, f"hydra.run.dir={folder}")
    assert (folder / "summary.json").exists()
    # Learnt keys, one per action, are not in this checkpoint.
    told = mistake_told(tmp_path, *tested, "agent.action_queries.keys=learned")
    assert "agent.action_queries.keys=drawn, this run has learned" in told


@pytest.mark.parametrize("field", ["agent.action_queries.keys=learned", "agent.belief.size=7"])
def test_fields_of_a_part_that_is_not_there_do_not_matter(
    tmp_path: Path, finished_run: Path, field: str
) -> None:
    given = (*PLAIN, f"ckpt_path={finished_run / 'last.ckpt'}", "mode=test")
    call_program(tmp_path, *given, field, f"hydra.run.dir={tmp_path}")
    assert (tmp_path / "summary.json").exists()


def test_other_sizes_are_for_tests(tmp_path: Path, finished_run: Path) -> None:
    given = (*PLAIN, f"ckpt_path={finished_run / 'last.ckpt'}", "evaluation.other_sizes=true")
    assert "this run has 3: set env.num_arms=5" in mistake_told(tmp_path, *given, "env.num_arms=3")


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("memory.hidden_size=9", "memory.hidden_size=8, this run has 9: set"),
        ("memory=lstm", "was trained with memory._target_="),
        ("agent.inputs=[previous_reward]", "was trained with agent.inputs="),
        ("agent.belief.form=samples", "agent.belief.form=none, this run has samples: set"),
        ("agent.policy_hidden_sizes=[4]", "agent.policy_hidden_sizes=[], this run has [4]: set"),
        ("env.num_arms=3", "env.num_arms=5, this run has 3: set env.num_arms=5"),
    ],
)
def test_checkpoint_of_another_shape(
    tmp_path: Path, finished_run: Path, mode: str, typed: str, told: str
) -> None:
    checkpoint = finished_run / "last.ckpt"
    line = mistake_told(tmp_path, *PLAIN, f"mode={mode}", f"ckpt_path={checkpoint}", typed)
    assert line.startswith(f"error: ckpt_path={checkpoint} ")
    assert told in line


def test_checkpoint_of_another_critic(tmp_path: Path, finished_run: Path) -> None:
    checkpoint = finished_run / "last.ckpt"
    sees = "learner.critic.sees_task=true"
    line = mistake_told(tmp_path, *PLAIN, f"ckpt_path={checkpoint}", sees)
    assert line.startswith(f"error: ckpt_path={checkpoint} ")
    assert "learner.critic.sees_task=False, this run has True: set" in line


def test_a_checkpoint_without_a_younger_field_is_of_its_default(
    tmp_path: Path, finished_run: Path
) -> None:
    checkpoint = torch.load(finished_run / "last.ckpt", weights_only=True)
    del checkpoint["hyper_parameters"]["learner"]["critic"]["sees_task"]
    old = tmp_path / "old.ckpt"
    torch.save(checkpoint, old)
    call_program(tmp_path, *PLAIN, "mode=test", f"ckpt_path={old}", f"hydra.run.dir={tmp_path}")
    assert (tmp_path / "summary.json").exists()
    told = mistake_told(tmp_path, *PLAIN, f"ckpt_path={old}", "learner.critic.sees_task=true")
    assert "learner.critic.sees_task=False, this run has True: set" in told


def test_weights_of_another_shape(tmp_path: Path, finished_run: Path) -> None:
    start = f"start_from={finished_run / 'last.ckpt'}"
    told = mistake_told(tmp_path, *PLAIN, start, "memory.hidden_size=9")
    assert told.startswith(f"error: {start} was trained with memory.hidden_size=8")
    assert not list(tmp_path.glob("*.ckpt"))


def test_truncated_checkpoint(tmp_path: Path, finished_run: Path) -> None:
    whole = (finished_run / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    done = run_program(tmp_path, *PLAIN, "mode=test", "ckpt_path=cut.ckpt")
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr == (
        f"error: ckpt_path=cut.ckpt ({len(whole) // 2} bytes) is not a whole checkpoint of this "
        "program: it may be damaged or cut short; use another one\n"
    )


@pytest.mark.parametrize("content", ["nothing", "text", "another program's"])
def test_file_that_is_no_checkpoint(tmp_path: Path, content: str) -> None:
    path = tmp_path / "some.ckpt"
    path.write_text("" if content == "nothing" else "hello")
    if content == "another program's":
        torch.save({"hyper_parameters": {"width": 3}}, path)
    told = mistake_told(tmp_path, *PLAIN, "mode=train", f"ckpt_path={path}")
    if content == "another program's":
        assert f"ckpt_path={path} has no weights: " in told
    else:
        assert f"ckpt_path={path} ({path.stat().st_size} bytes) is not a whole checkpoint" in told


@pytest.mark.parametrize("left_out", ["optimizer_states", "loops"])
def test_weights_alone_cannot_be_resumed(tmp_path: Path, finished_run: Path, left_out: str) -> None:
    checkpoint = torch.load(finished_run / "last.ckpt", weights_only=True)
    del checkpoint[left_out]
    weights = tmp_path / "weights.ckpt"
    torch.save(checkpoint, weights)
    told = mistake_told(tmp_path, *PLAIN, "trainer.max_epochs=2", f"ckpt_path={weights}")
    assert told.startswith(f"error: ckpt_path={weights} has only weights and no optimiser state")
    assert told.endswith("start a new training with start_from, or test it")
    uses = {"test": ("mode=test", f"ckpt_path={weights}"), "start": (f"start_from={weights}",)}
    for name, use in uses.items():
        folder = tmp_path / name
        call_program(tmp_path, *PLAIN, *use, f"hydra.run.dir={folder}")
        assert (folder / "summary.json").exists()
