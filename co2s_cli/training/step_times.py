"""How long the steps of a run take: light ones, in which only labels count, and full ones, with all losses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Time of the steps of a run, whose schedule begins anew where a second half trains with all labels."""

    schedule_steps: int
    """Steps of a schedule."""
    light_steps: int
    """Steps at its beginning in which only labels count."""
    light: float = 1.0
    """Seconds of a light step."""
    full: float = 1.0
    """Seconds of any other step."""

    def seconds(self, steps: int) -> float:
        """Time of the first `steps` steps of the run."""
        whole, begun = divmod(steps, self.schedule_steps)
        light = whole * self.light_steps + min(begun, self.light_steps)
        return light * self.light + (steps - light) * self.full

    def left(self, first: int, done: int, last: int, took: float) -> float:
        """Time until step `last`, where the steps from `first` to `done` took `took` seconds."""
        return took * (self.seconds(last) - self.seconds(done)) / (self.seconds(done) - self.seconds(first))
