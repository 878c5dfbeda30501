"""Names of the students of a model, and of the ways to fuse what they say: settings, models and reports share them."""

from typing import Literal, get_args

StudentName = Literal["clip", "dino", "local"]
"""`clip` is guided by texts, `dino` by learnt queries, `local` sees every pixel in its small surroundings."""

STUDENT_NAMES: tuple[StudentName, ...] = get_args(StudentName)

DEFAULT_STUDENTS: tuple[StudentName, ...] = ("clip", "dino")
"""The pair of the paper."""

Fusion = Literal["mean", "confident", "clip", "dino", "local"]
"""mean: of the probabilities; confident: those of the surer student, pixel by pixel; else one student's alone."""
