"""Structured pruning: which channels can only be removed together, and networks without some of them."""

from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.channels import Axes, Channels
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import Group, Groups, channel_groups
from keras_ganprune.pruning.structured.rules.macs import register_macs
from keras_ganprune.pruning.structured.rules.registry import register_rule

__all__ = [
    "Axes",
    "Budget",
    "Channels",
    "Costs",
    "Group",
    "Groups",
    "channel_groups",
    "register_macs",
    "register_rule",
]
