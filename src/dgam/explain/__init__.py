"""Why a detection has its score, and where a video's attention and classifier disagree; NumPy, no torch."""
