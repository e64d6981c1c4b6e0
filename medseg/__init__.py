"""3-D medical image segmentation for cohorts of which only some volumes are labelled."""

__version__ = "0.1.0.dev0"
