"""Hypothesis without a deadline (the machine is shared), and with few examples."""

from hypothesis import settings

settings.register_profile("shared-machine", deadline=None, max_examples=40)
settings.load_profile("shared-machine")
