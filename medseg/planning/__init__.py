"""From a cohort to its plan."""

from medseg.planning.fingerprint import Fingerprint, cohort_digest, fingerprint
from medseg.planning.planner import make_plan, plan_cohort
from medseg.planning.sizes import Sizes, parse_memory

__all__ = ["Fingerprint", "Sizes", "cohort_digest", "fingerprint", "make_plan", "parse_memory", "plan_cohort"]
