"""Names of the students of a model, and of the ways to fuse what they say: settings, models and reports share them."""

from typing import Literal, get_args

StudentName = Literal["clip", "dino", "local", "local2", "local3"]
"""`clip` is guided by texts, `dino` by learnt queries, `local` sees every pixel in its small surroundings; `local2` and
`local3` are networks of the same kind with other beginnings."""

STUDENT_NAMES: tuple[StudentName, ...] = get_args(StudentName)

DEFAULT_STUDENTS: tuple[StudentName, ...] = ("clip", "dino")
"""The pair of the paper."""

LOCAL_NAMES: tuple[StudentName, ...] = ("local", "local2", "local3")

Fusion = Literal["mean", "confident", "clip", "dino", "local", "local2", "local3"]
"""mean: of the probabilities; confident: those of the surer student, pixel by pixel; else one student's alone."""
