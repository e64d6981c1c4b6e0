"""From a cohort to its plan."""

from medseg.planning.fingerprint import Fingerprint, cohort_digest, fingerprint
from medseg.planning.planner import Sizes, make_plan, plan_cohort

__all__ = ["Fingerprint", "Sizes", "cohort_digest", "fingerprint", "make_plan", "plan_cohort"]
