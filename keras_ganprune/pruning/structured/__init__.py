"""Which channels of a network go together, and the same network without some of them."""

from keras_ganprune.structured.budget import Budget
from keras_ganprune.structured.channels import Axes, Channels
from keras_ganprune.structured.costs import Costs
from keras_ganprune.structured.groups import Group, Groups, channel_groups
from keras_ganprune.structured.mac_rules import register_macs
from keras_ganprune.structured.registry import register_rule

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
