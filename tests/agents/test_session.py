"""Sessions: users act as the agent does in training, come and go, and lose nothing."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.session import Session
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import UserError
from tests.agents.users import KINDS, NUM, SEED, agent_of, played, shown_at, spied
from tests.builders import corridor_trials, make_agent

NAMES = ["ann", "bob", 7, ("c", 1)]


def part(shown: Any, rows: list[int]) -> Any:
    return shown[rows] if isinstance(shown, Tensor) else {n: one[rows] for n, one in shown.items()}


def observe(session: Session, steps: TensorDictBase, step: int, rows: list[int], users: Any):
    """What the trial's next step shows of the last one."""
    if step + 1 < steps.shape[1]:
        shown = steps[rows, step + 1]
        session.observe(shown[keys.PREVIOUS_REWARD], shown[keys.PREVIOUS_DONE] > 0, users)


def in_training(agent: Agent, steps: TensorDictBase, *, greedy: bool) -> Tensor:
    """The features of whole trials in one pass, as a learner computes them, `[NUM, T, H]`."""
    generator = None if greedy else torch.Generator().manual_seed(SEED)
    with torch.enable_grad():
        features, _ = agent.unroll(inputs_of(steps), agent.initial_state(NUM, generator))
    return features.detach()


def require_close(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-6, or to that share of the largest number."""
    largest = max([1.0, *expected.abs().flatten().tolist()])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_users_act_as_in_training(kind: str, greedy: bool) -> None:
    agent, env = agent_of(kind)
    steps = played(agent, env, greedy=greedy)
    expected = in_training(agent, steps, greedy=greedy)
    made, session = spied(agent), agent.session(NUM, greedy=greedy, seed=SEED)
    for t in range(steps.shape[1]):
        action = session.act(shown_at(steps, t))
        playing = steps[:, t][keys.MASK].squeeze(1)
        assert torch.equal(action[playing], steps[:, t][keys.ACTION][playing]), t
        assert action.dtype == steps[keys.ACTION].dtype
        require_close(made[-1].features[playing], expected[playing, t])
        observe(session, steps, t, list(range(NUM)), None)
    assert t > 1


@pytest.mark.parametrize("kind", KINDS)
def test_users_go_on_after_save_and_restore(kind: str) -> None:
    agent, env = agent_of(kind)
    steps = played(agent, env, greedy=True)
    assert steps.shape[1] > 2, "else users would not be saved in step 2"
    expected = in_training(agent, steps, greedy=True)
    made, session = spied(agent), agent.session(greedy=True)
    for name in NAMES:
        session.add(name)
    for t in range(steps.shape[1]):
        # One alone, then the others in another order; saved while a reward is awaited, too.
        for rows in ([2], [3, 0, 1]):
            users = [NAMES[row] for row in rows]
            if t == 1:
                session = restored(agent, session)
            action = session.act(part(shown_at(steps, t), rows), users)
            if t == 2:
                session = restored(agent, session)
            now = steps[rows, t]
            playing = now[keys.MASK].squeeze(1)
            require_close(made[-1].features[playing], expected[rows, t][playing])
            torch.testing.assert_close(action[playing], now[keys.ACTION][playing])
            observe(session, steps, t, rows, users)


def restored(agent: Agent, session: Session) -> Session:
    """Another session with the memories of all users, in another order."""
    saved = {user: session.save(user) for user in reversed(session.users)}
    assert all(type(data) is bytes for data in saved.values())
    other = agent.session(1, greedy=True)
    for user, data in saved.items():
        other.load(user, data)
    other.drop(0)
    assert other.users == list(saved)
    assert all(other.save(user) == data for user, data in saved.items())
    return other


def test_users_come_and_go() -> None:
    agent, _ = agent_of("gru")
    session, other = (agent.session(2, greedy=True) for _ in range(2))
    first = session.save(1)
    for _ in range(3):
        for one, reward in ((session, 0.0), (other, 1.0)):
            one.act(torch.ones(2, 1))
            one.observe([1.0, reward], [True, True])
    assert session.save(0) == other.save(0), "others do not reach a user's memory"
    assert session.save(1) != other.save(1)
    session.drop(1)
    assert session.users == [0]
    assert len(session) == 1
    assert 1 not in session
    session.add(1)
    assert session.save(1) == first, "a user who comes again begins anew"
    for number in range(2, 3000):
        session.add(number)
    assert session.save(0) == other.save(0)
    assert session.save(2999) == first
    assert len(agent.session(5000).act(np.ones((5000, 1)))) == 5000


def test_seeds_decide_the_samples() -> None:
    agent, _ = agent_of("gru", gain=1)
    observation = torch.ones(200, 1)
    draws = [agent.session(200, seed=seed).act(observation) for seed in (3, 3, 4, None, None)]
    assert torch.equal(draws[0], draws[1])
    assert all(not torch.equal(draws[0], other) for other in draws[2:])
    assert not torch.equal(draws[3], draws[4])


def test_arrays_and_lists_are_observations() -> None:
    agent, _ = agent_of("continuous")
    shown = np.array([[0.25, -0.5]] * 2)
    actions = [
        agent.session(2, greedy=True).act(given)
        for given in (shown, shown.tolist(), torch.tensor(shown, dtype=torch.float16))
    ]
    assert torch.equal(actions[0], actions[1])
    assert torch.equal(actions[0], actions[2])


MISTAKES = {
    "shape": (
        lambda s: s.act(torch.ones(2, 3)),
        r"the observation has shape \[2, 3\], and this ag",
    ),
    "number": (lambda s: s.act(torch.ones(1, 1)), r"needs \[2, 1\] for 2 user"),
    "nan": (
        lambda s: s.act([[1.0], [float("nan")]]),
        "user 1 has a number in the observation that",
    ),
    "large": (lambda s: s.act([[1.0], [3e38]]), "user 1 has an observation that is too large"),
    "words": (lambda s: s.act([["much"]], [0]), "the observation is no array of numbers"),
    "complex": (lambda s: s.act([[1j], [1j]]), "give real numbers"),
    "unknown": (lambda s: s.act([[1.0]], ["ann"]), "user 'ann' is not in the session: add it"),
    "unknown save": (lambda s: s.save("ann"), "user 'ann' is not in the session"),
    "unknown drop": (lambda s: s.drop("ann"), "user 'ann' is not in the session"),
    "added twice": (lambda s: s.add(1), "user 1 is in the session already"),
    "named twice": (lambda s: s.act([[1.0]] * 2, [1, 1]), "user 1 is named twice"),
    "one name": (lambda s: s.act([[1.0]], "ann"), r"users='ann' is one name: give a list"),
    "no list": (lambda s: s.act([[1.0]], 1), r"users=1 is no list: give one, \[1\]"),
    "no key": (lambda s: s.add(["ann"]), r"user \['ann'\] cannot be a key of a dictionary"),
    "no key of users": (lambda s: s.act([[1.0]], [["ann"]]), r"user \['ann'\] cannot be a key"),
    "no key to load": (lambda s: s.load(["ann"], s.save(0)), r"user \['ann'\] cannot be a key"),
    "nobody": (lambda s: s.act(torch.ones(0, 1), []), "there is no user"),
    "not acted": (lambda s: s.observe([1.0] * 2, [True] * 2), "user 0 has not acted since"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_change_nothing(name: str) -> None:
    agent, _ = agent_of("matrix")
    session = agent.session(2)
    before = [session.save(user) for user in session.users]
    mistake, told = MISTAKES[name]
    with pytest.raises(UserError, match=told) as raised:
        mistake(session)
    assert "\n" not in str(raised.value)
    assert [session.save(user) for user in session.users] == before
    assert len(session.act(torch.ones(2, 1))) == 2, "the others are served on"


@pytest.mark.parametrize("num_users", [-1, 2.5])
def test_a_number_of_users_is_a_whole_one(num_users: int | float) -> None:
    told = rf"^num_users={num_users}: give a whole number of at least 0$"
    with pytest.raises(UserError, match=told):
        agent_of("gru")[0].session(cast(int, num_users))
    assert agent_of("gru")[0].session(cast(int, np.int64(2))).users == [0, 1]


def test_rewards_are_awaited() -> None:
    agent, _ = agent_of("gru")
    session = agent.session(2)
    session.act([[1.0]], [1])
    with pytest.raises(UserError, match=r"^user 1 has not observed the reward of its last action"):
        session.act(torch.ones(2, 1))
    for reward, done, told in (
        ([1.0, 2.0], [True], "shape"),
        ([float("inf")], [True], "user 1 has a reward that is"),
        ([1.0], [0.5], "user 1 has a done that is neither true nor false"),
        ([1.0], [float("nan")], "user 1 has a done that is neither true nor false"),
    ):
        with pytest.raises(UserError, match=told):
            session.observe(reward, done, [1])
    session.observe([[1.0]], [[True]], [1])
    assert len(session.act(torch.ones(2, 1))) == 2


def test_several_observations_are_named() -> None:
    agent, env = agent_of("images")
    shown = dict(env.begin().inputs.observation.items())
    session = agent.session(NUM)
    with pytest.raises(
        UserError, match=r"^the observation is a Tensor: give a dictionary with ord"
    ):
        session.act(torch.ones(NUM, 3))
    with pytest.raises(
        UserError, match=r"^the observation picture is torch.float32, and this agent"
    ):
        session.act({**shown, "picture": shown["picture"].float()})
    with pytest.raises(UserError, match=r"^the observation is other: give a dictionary"):
        session.act({"other": torch.ones(NUM, 1)})
    assert len(session.act(shown)) == NUM


def test_bytes_of_others_are_refused() -> None:
    agent, _ = agent_of("gru")
    session = agent.session(2)
    session.act(torch.ones(2, 1))
    session.observe([1.0, 1.0], [True, True])
    data, before = session.save(0), session.save(1)
    later = data[:4] + b"\x63\x00" + data[6:]
    retrained, _ = agent_of("gru", seed=9)
    other_kind, _ = agent_of("lstm")
    cases = {
        b"": "are no saved memory",
        b"\x80\x04]." * 20: "are no saved memory",
        "text": "are of type str",
        later: "have format 99, this program reads 1",
        retrained.session(1).save(0): "are the memory of another agent",
        other_kind.session(1).save(0): "are the memory of another agent",
        data[:-1]: "are damaged or cut short",
        data[:-9] + b"\xff" + data[-8:]: "are damaged or cut short",
    }
    for given, told in cases.items():
        for user in (1, "new"):
            with pytest.raises(UserError, match=f"^the bytes given for user {user!r} {told}"):
                session.load(user, given)
    assert session.users == [0, 1]
    assert session.save(1) == before
    session.load(1, data)
    assert session.save(1) == data


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        ("gru", "previous_action", 4),
        ("gru", "previous_action", -1),
        ("gru", "state_0", float("nan")),
        ("snail", "state_0", -1),
        ("samples of a belief", "state_1", 10**6),
        ("several actions", "previous_action", 99),
        ("continuous", "previous_action", float("inf")),
    ],
)
def test_numbers_that_no_memory_has_are_refused(kind: str, column: str, value: float) -> None:
    """With a right checksum: whoever can write to the store of memories can compute it."""
    agent, _ = agent_of(kind)
    session, forged = agent.session(2), agent.session(1)
    forged._rows.columns[column][0] = value
    before = session.save(1)
    with pytest.raises(UserError, match="hold numbers that no memory of this agent has"):
        session.load(1, forged.save(0))
    assert session.save(1) == before


def test_what_an_agent_does_not_see_is_not_kept() -> None:
    env = corridor_trials(2)
    sizes = [
        len(make_agent(env, inputs=inputs).session(1).save(0))
        for inputs in (("observation",), ("observation", "previous_observation"))
    ]
    assert sizes[0] < sizes[1]


def test_users_are_at_different_steps_of_their_trials() -> None:
    agent, _ = agent_of("gated_transformer")
    session = agent.session(3, greedy=True)
    for user, num_steps in enumerate((1, 4, 2)):
        for _ in range(num_steps):
            session.act([[1.0]], [user])
            session.observe([1.0], [True], [user])
    made = spied(agent)
    session.act(torch.ones(3, 1))
    alone = agent.session(1, greedy=True)
    for _ in range(4):
        alone.act(torch.ones(1, 1))
        alone.observe([1.0], [True])
    alone.act(torch.ones(1, 1))
    require_close(made[0].features[1], made[-1].features[0])


def test_a_step_is_an_action_with_its_probability() -> None:
    agent = agent_of("gru")[0]
    one, other = (agent.session(NUM, seed=SEED) for _ in range(2))
    shown = torch.ones(NUM, 1)
    step = one.step(shown)
    assert torch.equal(step.action, other.act(shown))
    expected = agent.policy(step.features).log_prob(step.action)
    require_close(step.log_probability, expected)
    assert [one.save(user) for user in one.users] == [other.save(user) for user in other.users]


def test_the_identity_is_that_of_the_weights() -> None:
    identities = [agent_of("gru", seed=seed)[0].session().identity for seed in (0, 0, 1)]
    assert identities[0] == identities[1] != identities[2]
