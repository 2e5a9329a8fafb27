"""The names of all entries of the TensorDicts that pass through the trainer.

Shapes: B trials, T steps, A actions (one-hot) or action dimensions, K arms, S states.
"""

# Played trials, a TensorDict [B].
STEPS = "steps"  # TensorDict [B, T]: the entries below, without those that the learner adds
TASK = "task"  # TensorDict of the tasks' parameters, [B]
LAST_OBSERVATION = "last_observation"  # [B, E, *observation]: last observation of each episode
MEMORY_STATE = "memory_state"  # TensorDict [B, ...]: tensors of the agent's memory

# What the environment shows before a step, at the step's root.
OBSERVATION = "observation"  # [B, T, *observation]; a TensorDict if there are several
PREVIOUS_OBSERVATION = "previous_observation"  # as OBSERVATION; 0 at a trial's start
PREVIOUS_ACTION = "previous_action"  # [B, T] int64, K for none; or [B, T, A] float32, 0 for none
PREVIOUS_REWARD = "previous_reward"  # [B, T, 1], float32
PREVIOUS_DONE = "previous_done"  # [B, T, 1], float32
POSITION = "position"  # [B, T, 2], float32: x and y after the last step
EPISODE = "episode"  # [B, T, 1], int64: index of the episode in its trial
ELAPSED = "elapsed"  # [B, T, 1], float32: elapsed fraction of the trial's budget
IS_INIT = "is_init"  # [B, T, 1], bool: first step of a trial
MASK = "mask"  # [B, T, 1], bool: false on the idle tail of a trial that ended early

# What the environment returns, under "next" of a step.
NEXT = "next"
STEP_REWARD = "reward"  # [B, 1], float32
TRIAL_DONE = "done"  # [B, 1], bool: end of the trial; of the episode in a TaskEnv
TRIAL_TERMINATED = "terminated"  # [B, 1], bool: as above, with no value beyond it
TRUNCATED = "truncated"  # [B, 1], bool: the episode was cut
EPISODE_ENDED = "episode_done"  # [B, 1], bool: end of an episode
RESET = "_reset"  # [B, 1], bool: the rows to reset
REWARD = (NEXT, STEP_REWARD)  # [B, T, 1]
DONE = (NEXT, TRIAL_DONE)  # [B, T, 1]
TERMINATED = (NEXT, TRIAL_TERMINATED)  # [B, T, 1]
EPISODE_DONE = (NEXT, EPISODE_ENDED)  # [B, T, 1]
DRAWN_REWARD = (NEXT, "drawn_reward")  # [B, T, 1]: the reward earned, where REWARD is its mean
REACHED = (NEXT, POSITION)  # [B, T, 2]: position after this step
INFO = "info"  # TensorDict: what else the family tells of this step, by name; see `of_info`

# What the agent adds.
ACTION = "action"  # [B, T] int64 or [B, T, A] float32
ACTION_LOG_PROB = "action_log_prob"  # [B, T], float32
FEATURES = "features"  # [B, T, H]: the memory's output for the policy

# What the learner adds.
STATE_VALUE = "state_value"  # [B, T, 1], in units of the value scale
OLD_STATE_VALUE = "old_state_value"  # [M, 1]: the critic's value when the trial was collected
ADVANTAGE = "advantage"  # [B, T, 1]
VALUE_TARGET = "value_target"  # [B, T, 1], in units of the value scale
ADVANTAGE_DERIVATIVE = "advantage_derivative"  # [B, T, 2]: with respect to γ and λ
VALUE_TARGET_DERIVATIVE = "value_target_derivative"  # [B, T, 2]: the same, of the value target
REFERENCE_ADVANTAGE = "reference_advantage"  # [B, T, 1]: with the γ and λ of the outer objective
CRITIC_STATE = "critic_state"  # TensorDict [B, ...]: tensors of the critic's memory, if it has one

# Windows of trials in a minibatch, beside TASK, MEMORY_STATE and CRITIC_STATE.
WINDOW = "window"  # TensorDict [N, W]: the steps that carry the loss
BURN_IN = "burn_in"  # TensorDict [N, b]: the steps before; the states are those at the first one
HAS_BURN_IN = "has_burn_in"  # [N, 1], bool: false for the first window of a trial
FOLLOWING = "following"  # TensorDict [N, n]: the steps after the window, for values to learn from

# Whole trials that are kept for a belief to be learnt from, a TensorDict [N, T] under WINDOW.
NEXT_OBSERVATION = "next_observation"  # [N, T, *observation]: after each step, of its own episode

# Windows drawn from a replay buffer.
INDEX = "index"  # [N], int64: place in the buffer
WEIGHT = "weight"  # [N], float32: importance weight, at most 1


def of_info(name: str) -> tuple[str, str, str]:
    """An entry of `INFO`, [B, T, 1], float32."""
    return (NEXT, INFO, name)
