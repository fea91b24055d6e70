"""Blind A/B tests of two policies from the same initial states."""

from resfit_rl.ab_test.blind_test import BlindTest, BlindTestError, Round, Terms, Turn, verify
from resfit_rl.ab_test.commitments import CommitmentError
from resfit_rl.ab_test.record import RecordError
from resfit_rl.ab_test.statistics import StoppingRule, summarise

__all__ = [
    "BlindTest",
    "BlindTestError",
    "CommitmentError",
    "RecordError",
    "Round",
    "StoppingRule",
    "Terms",
    "Turn",
    "summarise",
    "verify",
]
