"""Tuning lambda_cost, t and other settings of TAS, and what is recommended in the end.

space.py     what is tuned
tuning.py    the method: a plan over searches and short trainings
trials.py    what they found, in numbers
study.py     Optuna: samplers, and the study in a journal
advice.py    which settings to take
views.py     tables of a tuning as DataFrames
figure.py    its picture
answer.py    all of it on the terminal and in files
"""

from tas_bench.tune.tuning import Tuning

__all__ = ["Tuning"]
