"""How examples are drawn for fuzzing: the same ones every time, however slow the machine."""

from hypothesis import HealthCheck, settings


def many(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
