"""The names of all entries of the TensorDicts that pass through the trainer.

Shapes: B trials, T steps, A actions (one-hot) or action dimensions, K arms, S states.
"""

# What the environment shows, at the root of a step.
OBSERVATION = "observation"  # [B, T, *observation], float32
PREVIOUS_OBSERVATION = "previous_observation"  # as OBSERVATION; where an agent asks for it
PREVIOUS_ACTION = "previous_action"  # [B, T, A], float32
PREVIOUS_REWARD = "previous_reward"  # [B, T, 1], float32
PREVIOUS_DONE = "previous_done"  # [B, T, 1], float32
POSITION = "position"  # [B, T, 2], float32: x and y, where the last step led to
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
REACHED = (NEXT, POSITION)  # [B, T, 2]: where this step led to

# What the agent adds.
ACTION = "action"  # [B, T] int64 or [B, T, A] float32
ACTION_LOG_PROB = "action_log_prob"  # [B, T], float32
LOGITS = "logits"  # [B, T, A]
# Mean and standard deviation before the squashing, and the bounds after it: [B, T, A] each.
SQUASHED_NORMAL = ["loc", "scale", "centre", "half_width"]
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

# Parameters of tasks.
GOAL = "goal"  # [B, 2], float32: where it is
START = "start"  # [B, 3], float32: the pose in which episodes begin
WALLS = "walls"  # [B, 2, N + 1, N], uint8: 0 or the wall's colour, on the sides of N x N cells
CART_MASS = "cart_mass"  # [B, 1], float32, as all physics: kilograms
POLE_LENGTH = "pole_length"  # half of it, in metres
MASS = "mass"  # kilograms
LENGTH = "length"  # metres
GRAVITY = "gravity"  # metres a second squared
FORCE_SIGN = "force_sign"  # 1, or -1 where actions work the other way round
ARM_PROBABILITIES = "arm_probabilities"  # [B, K], float32
ARM_MEANS = "arm_means"  # [B, K], float32: mean reward of each arm
FIRST_ARM_PROBABILITY = "first_arm_probability"  # [B, 1], float32: at the first pull
REWARD_PROBABILITIES = "reward_probabilities"  # [B, 2], float32: of the second-step states
TARGET_ARM = "target_arm"  # [B, K], float32: one-hot
VOLATILITY = "volatility"  # [B, 1], float32: standard deviation of the drift a pull
MEAN_REWARDS = "mean_rewards"  # [B, S, A], float32: of each state and action
TRANSITION_PROBABILITIES = "transition_probabilities"  # [B, S, A, S], float32: to the last S
