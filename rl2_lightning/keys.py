"""The names of all entries of the TensorDicts that pass through the trainer.

Shapes: B trials, T steps, A actions (one-hot) or action dimensions, K arms, S states.
"""

# What the environment shows, at the root of a step.
OBSERVATION = "observation"  # [B, T, *observation], float32
PREVIOUS_ACTION = "previous_action"  # [B, T, A], float32
PREVIOUS_REWARD = "previous_reward"  # [B, T, 1], float32
PREVIOUS_DONE = "previous_done"  # [B, T, 1], float32
EPISODE = "episode"  # [B, T, 1], int64: index of the episode in its trial
ELAPSED = "elapsed"  # [B, T, 1], float32: elapsed fraction of the trial's budget
IS_INIT = "is_init"  # [B, T, 1], bool: first step of a trial
MASK = "mask"  # [B, T, 1], bool: false on the idle tail of a trial that ended early
TASK = "task"  # TensorDict of the task's parameters, [B]

# What the environment answers, under "next" of a step.
NEXT = "next"
STEP_REWARD = "reward"  # [B, 1], float32
TRIAL_DONE = "done"  # [B, 1], bool: end of the trial; of the episode where no trials are played
TRIAL_TERMINATED = "terminated"  # [B, 1], bool: as above, and no value beyond it
TRUNCATED = "truncated"  # [B, 1], bool: the episode was cut
EPISODE_ENDED = "episode_done"  # [B, 1], bool: end of an episode
RESET = "_reset"  # [B, 1], bool: rows that a reset asks for
REWARD = (NEXT, STEP_REWARD)  # [B, T, 1]
DONE = (NEXT, TRIAL_DONE)  # [B, T, 1]
TERMINATED = (NEXT, TRIAL_TERMINATED)  # [B, T, 1]
EPISODE_DONE = (NEXT, EPISODE_ENDED)  # [B, T, 1]

# What the agent adds.
ACTION = "action"  # [B, T] int64 or [B, T, A] float32
ACTION_LOG_PROB = "action_log_prob"  # [B, T], float32
LOGITS = "logits"  # [B, T, A]
STATE_VALUE = "state_value"  # [B, T, 1]: the critic's output, in units of the value scale
STEP_TERM = "critic_step_term"  # [B, T, C]: a step's part in the critic's first layer
TASK_TERM = "critic_task_term"  # [N, W, C]: the task's part in it, the same for all W steps

# What the learner adds.
ADVANTAGE = "advantage"  # [B, T, 1]
VALUE_TARGET = "value_target"  # [B, T, 1], in units of the value scale

# A window of a trial, as a minibatch holds it.
WINDOW = "window"  # TensorDict [N, W]: the steps that carry the loss
BURN_IN = "burn_in"  # TensorDict [N, b]: the steps before them
MEMORY_STATE = "memory_state"  # TensorDict [N]: memory at the first step of the window
BURN_IN_STATE = "burn_in_state"  # TensorDict [N]: memory at the first step of the burn-in
HAS_BURN_IN = "has_burn_in"  # [N, 1], bool: false for the first window of a trial

# What a spectator is shown of a task, and no agent.
POSE = "pose"  # [B, 3], float32: x and y in cells, heading in sixteenths of a turn

# Parameters of tasks.
GOAL = "goal"  # [B, 2], float32: where it is
START = "start"  # [B, 3], float32: the pose in which episodes begin
WALLS = "walls"  # [B, 2, N + 1, N], uint8: 0 or the wall's colour, on the sides of N x N cells
ARM_PROBABILITIES = "arm_probabilities"  # [B, K], float32
MEAN_REWARDS = "mean_rewards"  # [B, S, A], float32: of each state and action
TRANSITION_PROBABILITIES = "transition_probabilities"  # [B, S, A, S], float32: to the last S
