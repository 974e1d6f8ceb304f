"""Numbers of a degradation's configuration, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparkvsr.errors import ConfigError


def as_range(name: str, values: Sequence[float]) -> tuple[float, float]:
    """Two numbers, the lower one first, not negative.

    Raises:
        ConfigError: they are not.
    """
    if len(values) != 2 or not 0 <= values[0] <= values[1]:
        msg = f"degradation.{name}={list(values)} must be two numbers, the lower one first, not negative"
        raise ConfigError(msg)
    return float(values[0]), float(values[1])


def as_numbers(name: str, values: Sequence[float]) -> tuple[float, float]:
    """Two numbers, the lower one first.

    Raises:
        ConfigError: they are not.
    """
    if len(values) != 2 or not values[0] <= values[1]:
        msg = f"degradation.{name}={list(values)} must be two numbers, the lower one first"
        raise ConfigError(msg)
    return float(values[0]), float(values[1])


def as_shares(name: str, shares: Mapping[str, float], allowed: Sequence[str]) -> dict[str, float]:
    """Shares by name, those of 0 left out; they need not sum to 1.

    Raises:
        ConfigError: an unknown name, a negative share, or none above 0.
    """
    for key in shares:
        if key not in allowed:
            msg = f"degradation.{name}.{key} is unknown; use {', '.join(allowed)}"
            raise ConfigError(msg)
    if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        msg = f"degradation.{name}={dict(shares)} must not be negative and at least one must be above 0"
        raise ConfigError(msg)
    return {key: float(value) for key, value in shares.items() if value > 0}


def check_share(name: str, value: float) -> float:
    """A probability.

    Raises:
        ConfigError: it does not lie between 0 and 1.
    """
    if not 0 <= value <= 1:
        msg = f"degradation.{name}={value} must lie between 0 and 1"
        raise ConfigError(msg)
    return float(value)
