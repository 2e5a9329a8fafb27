"""The agent: how it is initialised, what it sees, and which parameters it has."""

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.networks.actor_critic import ActorCritic
from rl2_lightning.networks.encoder import ALL_INPUTS, INPUTS
from tests.builders import (
    MEMORIES,
    as_minibatch,
    bandit_trials,
    collect,
    make_network,
    make_ppo,
)

KINDS = [(memory, separate) for memory in ("gru", "lstm") for separate in (False, True)]
NUM_GATES = {"gru": 3, "lstm": 4}


def fresh_network(memory: str = "gru", **options: object) -> ActorCritic:
    """An agent as it is built, its actor not sharpened."""
    network = make_network(bandit_trials(3), memory, **options)
    with torch.no_grad():
        for parameter in network.actor.parameters():
            parameter.div_(100)
    return network


def assert_orthogonal(weight: Tensor, gain: float = 1.0) -> None:
    """Rows, or columns where there are fewer of them, are orthogonal and of length `gain`."""
    narrow = weight if weight.shape[0] <= weight.shape[1] else weight.T
    expected = gain**2 * torch.eye(len(narrow))
    torch.testing.assert_close(narrow @ narrow.T, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_memory_starts_orthogonal_gate_by_gate(memory: str, separate: bool) -> None:
    network = fresh_network(memory, separate=separate, num_layers=2)
    seen = 0
    for module in network.memories.values():
        for name, parameter in getattr(module, memory).named_parameters():
            if name.startswith("bias"):
                assert not parameter.any()
                continue
            gates = parameter.split(module.output_size)
            assert len(gates) == NUM_GATES[memory]
            for gate in gates:
                assert_orthogonal(gate)
            assert not torch.equal(gates[0], gates[1])
            seen += 1
    assert seen == (1 + separate) * 2 * 2, "two weights a layer, two layers"


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_memory_may_start_with_units_that_keep_what_they_have(memory: str) -> None:
    module = MEMORIES[memory](
        5, 400, num_layers=2, max_timescale=50, in_key="in", out_key="out", state_key="state"
    )
    for layer in range(2):
        recurrent = getattr(module, memory)
        assert not getattr(recurrent, f"bias_hh_l{layer}").any()
        first, keeping, *others = getattr(recurrent, f"bias_ih_l{layer}").split(400)
        assert not torch.stack(others).any()
        assert torch.equal(first, -keeping if memory == "lstm" else torch.zeros(400))
        # What a unit keeps of its state in a step, e^-1 of it after so many steps or so.
        kept = keeping.sigmoid()
        assert 0.5 <= kept.min() < 0.7
        assert 1 - 1 / 45 < kept.max() <= 1 - 1 / 50 + 1e-6
        assert (1 / (1 - kept)).mean().item() == pytest.approx(26, abs=2)


def test_layers_start_orthogonal_with_zero_biases() -> None:
    network = fresh_network(hidden_sizes=(6, 5))
    for part in (network.encoders, network.actor, network.critic):
        linears = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
        assert len(linears) >= 2
        for layer in linears:
            assert layer.bias is None or not layer.bias.any()
            last = layer.out_features in (1, 3)
            gain = {network.actor: 0.01, network.critic: 1.0}.get(part, 1.0) if last else 2**0.5
            assert_orthogonal(layer.weight, gain)


@pytest.mark.parametrize(
    "inputs", [INPUTS, ALL_INPUTS, INPUTS[:2], INPUTS[2:], (keys.PREVIOUS_REWARD,)]
)
@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_policy_depends_on_its_inputs_alone(
    memory: str, separate: bool, inputs: tuple[str, ...]
) -> None:
    env = bandit_trials(6, shows_previous_observation=True)
    network = make_network(env, memory, separate=separate, inputs=inputs)
    trials = collect(env, network)
    state = trials[:, 2].select(*network.state_keys)

    def answer(steps: TensorDictBase) -> Tensor:
        window = network.unroll(steps[:, 2:], state)
        values = network.critic(window.exclude(keys.STATE_VALUE))[keys.STATE_VALUE]
        return torch.cat([network.actor.get_dist(window).logits, values], dim=-1)

    expected = answer(trials.exclude(keys.NEXT))
    for name in ALL_INPUTS:
        changed = trials.exclude(keys.NEXT).clone()
        changed[name] = changed[name] + 1.0
        moved = (answer(changed) - expected).abs().amax(dim=(0, 1))
        assert bool((moved > 1e-4).all()) is (name in inputs), name


def test_ablated_inputs_change_no_action() -> None:
    env = bandit_trials(6)
    network = make_network(env, inputs=(keys.PREVIOUS_ACTION,))
    step = collect(env, network)[:, 3]
    for name in (keys.PREVIOUS_REWARD, keys.PREVIOUS_DONE, keys.OBSERVATION):
        torch.manual_seed(0)
        action = network(step.clone())[keys.ACTION]
        torch.manual_seed(0)
        without = network(step.exclude(name))
        assert torch.equal(without[keys.ACTION], action)


@pytest.mark.parametrize(("inputs", "told"), [([], r"\[\]"), (["reward"], r"\['reward'\]")])
def test_inputs_that_do_not_exist(inputs: list[str], told: str) -> None:
    with pytest.raises(UserError, match=rf"^network.inputs={told}: name at least one of obs"):
        make_network(bandit_trials(3), inputs=inputs)


@pytest.mark.parametrize("memory", MEMORIES)
def test_separate_memories_share_no_parameter(memory: str) -> None:
    env = bandit_trials(5)
    network = make_network(env, memory, separate=True, hidden_sizes=(4,))
    assert list(network.memories) == list(network.encoders) == ["actor", "critic"]
    trials = collect(env, network).exclude(keys.NEXT)
    window = network.unroll(trials, trials[:, 0].select(*network.state_keys))

    def reached(output: Tensor) -> set[str]:
        found = torch.autograd.grad(
            output.sum(), list(network.parameters()), retain_graph=True, allow_unused=True
        )
        names = [name for name, _ in network.named_parameters()]
        return {name for name, grad in zip(names, found, strict=True) if grad is not None}

    by_actor = reached(network.actor.get_dist(window).logits)
    by_critic = reached(network.critic(window.exclude(keys.STATE_VALUE))[keys.STATE_VALUE])
    assert not by_actor & by_critic
    assert by_actor | by_critic == {name for name, _ in network.named_parameters()}
    weights = [dict(network.memories[name].named_parameters()) for name in ("actor", "critic")]
    assert any(not torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_a_shared_memory_is_reached_by_both() -> None:
    env = bandit_trials(5)
    network = make_network(env)
    assert list(network.memories) == ["shared"]
    trials = collect(env, network).exclude(keys.NEXT)
    window = network.unroll(trials, trials[:, 0].select(*network.state_keys))
    critic = network.critic(window.exclude(keys.STATE_VALUE))[keys.STATE_VALUE]
    for output in (network.actor.get_dist(window).logits[..., 0], critic):
        gradients = torch.autograd.grad(
            output.sum(), list(network.memories.parameters()), retain_graph=True
        )
        assert all(gradient.any() for gradient in gradients)


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_state_dict_holds_each_parameter_once(memory: str, separate: bool) -> None:
    env = bandit_trials(5)
    learner = make_ppo(make_network(env, memory, separate=separate), env)
    before = learner.state_dict().keys()
    learner.ppo_loss  # noqa: B018  built at the first use
    learner.configure_optimizers()
    state = learner.state_dict()
    assert state.keys() == before
    network = dict(learner.network.named_parameters())
    stored = [tensor.data_ptr() for tensor in state.values() if tensor.numel()]
    assert len(stored) == len(set(stored))
    assert {name for name in state if name.startswith("network.")} == {
        f"network.{name}" for name in network
    }
    assert len(list(learner.parameters())) == len(network)


def test_optimiser_holds_each_parameter_once() -> None:
    env = bandit_trials(5)
    learner = make_ppo(make_network(env, separate=True), env)
    (group,) = learner.configure_optimizers().param_groups
    assert {id(parameter) for parameter in group["params"]} == {
        id(parameter) for parameter in learner.network.parameters()
    }
    assert len(group["params"]) == len(list(learner.network.parameters()))


@pytest.mark.parametrize("hidden_sizes", [(), (6,)])
def test_value_depends_on_the_elapsed_time_and_the_policy_does_not(
    hidden_sizes: tuple[int, ...],
) -> None:
    env = bandit_trials(6)
    network = make_network(env, hidden_sizes=hidden_sizes)
    trials = collect(env, network).exclude(keys.NEXT)

    def answers(elapsed: float) -> tuple[Tensor, Tensor]:
        changed = trials.clone()
        changed[keys.ELAPSED].fill_(elapsed)
        window = network.unroll(changed, trials[:, 0].select(*network.state_keys))
        value = network.critic(window.exclude(keys.STATE_VALUE))[keys.STATE_VALUE]
        return network.actor.get_dist(window).logits, value

    (logits, early), (same_logits, late) = answers(0.1), answers(0.9)
    assert torch.equal(logits, same_logits)
    assert ((early - late).abs() > 1e-3).all()


def test_the_first_policy_is_nearly_uniform() -> None:
    env = bandit_trials(50)
    network = make_network(env, hidden_sizes=())
    with torch.no_grad():
        for parameter in network.actor.parameters():
            parameter.div_(100)
    log_probs = collect(env, network)[keys.ACTION_LOG_PROB]
    torch.testing.assert_close(
        log_probs.exp(), torch.full_like(log_probs, 1 / 3), atol=0.02, rtol=0
    )


def unrolled(network: ActorCritic, trials: TensorDictBase, tasks: TensorDictBase) -> TensorDictBase:
    """What the heads read of whole trials."""
    return network.unroll(trials, trials[:, 0].select(*network.state_keys), tasks)


@pytest.mark.parametrize(("memory", "separate"), KINDS)
def test_the_actor_never_sees_the_task(memory: str, separate: bool) -> None:
    env = bandit_trials(6)
    network = make_network(env, memory, separate=separate, critic_sees_task=True)
    learner = make_ppo(network, env)
    trials = learner.prepare_trials(collect(env, network))
    # The memory that is shared learns of the critic, too: its part of the loss is left out.
    own = [*network.memories[network.feature_keys[0].partition("_")[0]].parameters()]
    own += network.actor.parameters()

    def answers(tasks: TensorDictBase) -> tuple[Tensor, ...]:
        minibatch = as_minibatch(trials, network, tasks=tasks)
        losses = learner.ppo_loss(learner._steps_with_loss(minibatch))
        steps = unrolled(network, trials, tasks)
        policy = losses["loss_objective"] + losses["loss_entropy"]
        logits, features = network.actor.get_dist(steps).logits, steps[network.feature_keys[0]]
        value = network.critic(steps.exclude(keys.STATE_VALUE))[keys.STATE_VALUE]
        return value, logits, features, *torch.autograd.grad(policy, own)

    value, *of_actor = answers(env.tasks)
    other_value, *same = answers(env.tasks + 1.0)
    assert ((value - other_value).abs() > 1e-3).all()
    assert all(map(torch.equal, of_actor, same))
    assert all(gradient.any() for gradient in of_actor[2:4])


@pytest.mark.parametrize("separate", [False, True])
def test_acting_needs_no_task(separate: bool) -> None:
    env = bandit_trials(6)
    network = make_network(env, separate=separate, critic_sees_task=True)
    assert keys.TASK not in network.in_keys
    trials = collect(env, network)
    assert keys.TASK not in trials.keys()  # noqa: SIM118
    plain = make_network(env, separate=separate)
    plain.load_state_dict(network.state_dict(), strict=False)
    without = collect(env, plain)
    # What is drawn and what is played are those of an agent whose critic sees no task.
    for key in (keys.ACTION, keys.ACTION_LOG_PROB, keys.REWARD, *network.state_keys):
        assert torch.equal(trials[key], without[key])
    difference = network.critic.module.task_term(env.tasks).unsqueeze(1)
    torch.testing.assert_close(
        trials[keys.STATE_VALUE] - without[keys.STATE_VALUE], difference.expand(-1, 6, -1)
    )


def test_only_a_critic_that_sees_the_task_has_weights_for_it() -> None:
    plain, seeing = (
        dict(fresh_network(critic_sees_task=sees).named_parameters()) for sees in (False, True)
    )
    memory = [f"memories.shared.gru.{kind}_{to}h_l0" for kind in ("weight", "bias") for to in "ih"]
    actor = [f"actor.module.0.module.0.{kind}" for kind in ("weight", "bias")]
    critic = [
        f"critic.module.of_{name}"
        for name in ("features.weight", "features.bias", "elapsed.weight")
    ]
    # Checkpoints are full of these names.
    assert list(plain) == [*memory, *actor, *critic]
    of_task = seeing.pop("critic.module.of_task.weight")
    assert of_task.shape == (1, 3)
    assert seeing.keys() == plain.keys()
    assert all(torch.equal(parameter, seeing[name]) for name, parameter in plain.items())
