"""Names of the students of a model and of the ways to fuse their predictions, for settings, models and reports."""

from typing import Literal, get_args

StudentName = Literal["clip", "dino", "local", "local2", "local3"]
"""`clip` is guided by texts, `dino` by learnt queries; `local` classifies each pixel by a small neighbourhood. `local2`
and `local3` are networks like `local` with different initial weights."""

STUDENT_NAMES: tuple[StudentName, ...] = get_args(StudentName)

DEFAULT_STUDENTS: tuple[StudentName, ...] = ("clip", "dino")
"""The two students of the paper."""

LOCAL_NAMES: tuple[StudentName, ...] = ("local", "local2", "local3")
"""The students of the kind `local`."""

Fusion = Literal["mean", "confident", "clip", "dino", "local", "local2", "local3"]
"""`mean`: mean of the students' probabilities; `confident`: in each pixel the probabilities of the more confident
student; a student's name: the probabilities of that student alone."""
