"""Skills that a rule can check: questions with one right answer, without end."""

from gemwright.data.skills.arithmetic import addition, calculation, multiplication, subtraction
from gemwright.data.skills.conversion import dates, units
from gemwright.data.skills.further import FURTHER
from gemwright.data.skills.question import Question, Skill, fingerprint, pair_key, questions
from gemwright.data.skills.words import counting, editing, sorting

SKILLS: tuple[Skill, ...] = (
    addition,
    subtraction,
    multiplication,
    sorting,
    counting,
    editing,
    units,
    dates,
)

__all__ = [
    "FURTHER",
    "SKILLS",
    "Question",
    "Skill",
    "calculation",
    "counting",
    "editing",
    "fingerprint",
    "multiplication",
    "pair_key",
    "questions",
    "sorting",
]
