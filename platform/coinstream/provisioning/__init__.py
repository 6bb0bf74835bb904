"""Topics as code: plan the difference between wanted and actual, apply what is safe."""

from coinstream.provisioning.cluster import Provisioner
from coinstream.provisioning.plan import ActualTopic, Difference, Plan, TopicPlan, Verdict, plan

__all__ = ["ActualTopic", "Difference", "Plan", "Provisioner", "TopicPlan", "Verdict", "plan"]
