"""The pages of the API: what they show is in the docstrings."""

from collections.abc import Mapping

# For each page its title, a sentence, and what it shows.
PAGES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "python": (
        "From Python",
        "What a script or a notebook needs. [From Python](../python.md) shows it in use.",
        (
            "rl2_lightning.train",
            "rl2_lightning.evaluate",
            "rl2_lightning.plot",
            "rl2_lightning.plot_training",
            "rl2_lightning.pictures",
            "rl2_lightning.play",
            "rl2_lightning.make_trials",
            "rl2_lightning.make_agent",
            "rl2_lightning.errors.UserError",
        ),
    ),
    "agents": (
        "Agents",
        "What acts and remembers. [Using a trained agent](../using_agents.md) shows it in use.",
        (
            "rl2_lightning.agents.agent.Agent",
            "rl2_lightning.agents.session.Session",
            "rl2_lightning.agents.spec.AgentSpec",
            "rl2_lightning.agents.memories.memory.Memory",
            "rl2_lightning.families.gymnasium.bridge.Bridge",
        ),
    ),
    "families": (
        "Families of tasks",
        "What a family of [your own](../own_tasks.md) is made of.",
        (
            "rl2_lightning.families.task_env.TaskEnv",
            "rl2_lightning.families.player.Player",
            "rl2_lightning.families.analysis.Analysis",
            "rl2_lightning.families.scene.Scene",
            "rl2_lightning.families.trial_env.TrialEnv",
            "rl2_lightning.families.play.play",
            "rl2_lightning.settings.Settings",
            "rl2_lightning.settings.between",
            "rl2_lightning.settings.one_of",
            "rl2_lightning.settings.range_within",
        ),
    ),
    "learners": (
        "Learners",
        "What a learner of [your own](../own_learner.md) is made of.",
        (
            "rl2_lightning.learners.learner.Learner",
            "rl2_lightning.learners.learner.LearnerSettings",
            "rl2_lightning.learners.actor_critic.ActorCriticLearner",
            "rl2_lightning.learners.actor_critic.ActorCriticSettings",
            "rl2_lightning.learners.manual.ManualLearner",
            "rl2_lightning.keys",
        ),
    ),
    "evaluation": (
        "Data and evaluation",
        "How trials are collected, and what is measured on held-out tasks.",
        (
            "rl2_lightning.data.collector.TrialCollector",
            "rl2_lightning.data.policy.AgentPolicy",
            "rl2_lightning.data.sources.TrialSource",
            "rl2_lightning.evaluation.held_out.HeldOut",
            "rl2_lightning.evaluation.evaluate.evaluate",
            "rl2_lightning.evaluation.adaptation_curve.AdaptationCurve",
            "rl2_lightning.checkpoint.Checkpoint",
        ),
    ),
}


def pages() -> dict[str, str]:
    """The Markdown of each page, by its path in the site."""
    return {
        f"api/{name}.md": f"# {title}\n\n{sentence}\n\n"
        + "".join(f"::: {one}\n\n" for one in shown)
        for name, (title, sentence, shown) in PAGES.items()
    }
