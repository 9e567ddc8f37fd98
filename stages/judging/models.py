"""What stands on the leaderboard beside the models of data/models and their chat templates: `judging.answerers`."""

from typing import Annotated, Literal

from pydantic import Field

from stages.annotators.server import ServerSettings
from stages.base.params import Section

CONTROL_KINDS = ("constant", "shuffled", "nearest_neighbour", "padded")


class Trained(Section):
    """A model that the pipeline trains: evaluated, judged and published; its key names the folder in data/models."""


class Outputs(Section):
    """Answers that are there already."""

    kind: Literal["outputs"]
    path: str
    """A table (schema OUTPUT, found by instruction id) or AlpacaEval's outputs (.json, by the instruction's text)."""


class Endpoint(Section):
    """A model on any OpenAI-compatible server."""

    kind: Literal["endpoint"]
    path: str
    """The prompt template that it is asked with: standard.txt, concise.txt or verbose.txt of stages/judging/prompts, or
    one of your own."""
    endpoint: ServerSettings


class FewShot(Section):
    """A model that goes on from answered questions, as a base model is asked."""

    kind: Literal["few_shot"]
    path: str
    """The model's folder, such as data/models/base."""
    shots: Annotated[int, Field(ge=1)]
    """Answered questions before each prompt, of the sft split; fewer where the context ends."""


class Padded(Section):
    """A control: another model's answers, each followed by 0 to 3 empty sentences."""

    kind: Literal["padded"]
    path: str
    """That model's answers, a table (schema OUTPUT)."""


class Control(Section):
    """Answers without knowledge: one constant sentence, references of other prompts, or the nearest sft prompt's."""

    kind: Literal["constant", "shuffled", "nearest_neighbour"]
    path: str
    """What the control is made of: data/alignment/instructions/items.json."""


Answerer = Annotated[Outputs | Endpoint | FewShot | Padded | Control, Field(discriminator="kind")]
