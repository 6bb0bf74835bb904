"""Compute exponential backoff: the delays of consumers, producers, feeds and their supervisor."""

from __future__ import annotations

from tenacity import RetryCallState, Retrying, wait_exponential, wait_random_exponential


class Backoff:
    """Delays that double with each consecutive failure, up to a maximum.

    Args:
        first_s: delay after the first failure, in seconds.
        longest_s: maximum delay, in seconds.
        full_jitter: draw each delay at random between zero and its bound, so that clients that failed
            together do not come back together.
    """

    def __init__(self, first_s: float, longest_s: float, *, full_jitter: bool = False) -> None:
        kind = wait_random_exponential if full_jitter else wait_exponential
        self._wait = kind(multiplier=first_s, max=longest_s)
        self._failures = 0

    def after_s(self, failures: int) -> float:
        """Return the delay after a number of consecutive failures, at least one, in seconds."""
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failures
        return float(self._wait(state))

    def next_s(self) -> float:
        """Count a failure, and return the delay after it in seconds."""
        self._failures += 1
        return self.after_s(self._failures)

    def reset(self) -> None:
        """Forget the failures after a success."""
        self._failures = 0
