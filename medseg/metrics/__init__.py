"""How it is judged: overlap, surfaces in mm, lesions and calibration; of a case and class, and of cases together."""
