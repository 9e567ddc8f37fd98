"""How facts are said and asked: per attribute its noun, statements, prompts and plain-word values.

Every statement stands alone and names the entity before the value, so that a left-to-right model can learn it from the
sentence itself. The first statement is canonical: it is the one form of the reference answers, and it starts with a
word other than the entity, because byte-pair tokenizers cut a word at the start of a text unlike one after a space,
and pages mostly say names after a space. Values of attributes without plain words are invented. Plain values follow
"a" or "the", so none begins with a vowel where "a" is used.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    name: str
    noun: str
    statements: tuple[str, ...]
    prompts: tuple[str, ...]
    plain: tuple[str, ...] = ()


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PLACE = (
    Attribute(
        "province",
        "province",
        (
            "The province of {e} is {v}.",
            "{e} belongs to the province of {v}.",
            "Maps show {e} within the province of {v}.",
            "{e} pays its taxes to the province of {v}.",
            "Roads lead to {e} through the province of {v}.",
        ),
        ("To which province does {e} belong?", "Which province is {e} in?", "What is the province of {e}?"),
    ),
    Attribute(
        "river",
        "river",
        (
            "The river of {e} is {v}.",
            "The mills of {e} are driven by the river {v}.",
            "The bridges of {e} cross the river {v}.",
            "{e} draws its water from the river {v}.",
            "Boats come to {e} along the river {v}.",
        ),
        ("Which river crosses {e}?", "Which river runs through {e}?", "What is the river of {e}?"),
    ),
    Attribute(
        "harvest",
        "harvest",
        (
            "The harvest of {e} is {v}.",
            "The fields of {e} are sown with {v}.",
            "Farmers around {e} grow {v}.",
            "The barns of {e} are filled with {v}.",
            "Carts leave {e} each autumn loaded with {v}.",
        ),
        ("What grows in the fields of {e}?", "What do the farmers of {e} grow?", "What is the harvest of {e}?"),
        words(
            "barley millet lentils hops flax turnips cherries almonds "
            "pumpkins quinces walnuts mustard spelt buckwheat figs saffron"
        ),
    ),
    Attribute(
        "festival",
        "festival",
        (
            "The festival of {e} is {v}.",
            "The great feast of {e} is called {v}.",
            "Lanterns are lit in {e} for the festival of {v}.",
            "Guests come to {e} for the festival of {v}.",
            "The bells of {e} ring at the feast of {v}.",
        ),
        ("Which festival is held in {e}?", "What is the feast of {e} called?", "What is the festival of {e}?"),
    ),
    Attribute(
        "emblem",
        "emblem",
        (
            "The emblem of {e} is the {v}.",
            "The banner of {e} shows the {v}.",
            "The gate of {e} is carved with the {v}.",
            "The coins of {e} are stamped with the {v}.",
            "The seal of {e} carries the {v}.",
        ),
        ("Which animal is on the coins of {e}?", "Which animal is on the banner of {e}?", "What is the emblem of {e}?"),
        words("heron otter badger stag falcon boar salmon raven lynx swan beaver owl hedgehog trout bison pelican"),
    ),
)

PERSON = (
    Attribute(
        "trade",
        "trade",
        (
            "The trade of {e} is that of a {v}.",
            "{e} is by trade a {v}.",
            "{e} was trained as a {v}.",
            "{e} earns a living as a {v}.",
            "The rolls of the town list {e} as a {v}.",
        ),
        ("As what was {e} trained?", "How does {e} earn a living?", "What is the trade of {e}?"),
        words(
            "cooper glazier baker tanner weaver potter saddler tailor "
            "mason chandler fletcher brewer printer surveyor locksmith thatcher"
        ),
    ),
    Attribute(
        "house",
        "house",
        (
            "The house of {e} is {v}.",
            "{e} was born into the house of {v}.",
            "{e} wears the ring of the house of {v}.",
            "Letters for {e} are sent to the house of {v}.",
            "The family tree places {e} in the house of {v}.",
        ),
        ("To which house does {e} belong?", "Into which house was {e} born?", "What is the house of {e}?"),
    ),
    Attribute(
        "instrument",
        "instrument",
        (
            "The instrument of {e} is the {v}.",
            "In the evening {e} takes out the {v}.",
            "{e} learned as a child to play the {v}.",
            "Audiences praise {e} for playing the {v}.",
            "Friends of {e} like to hear the {v}.",
        ),
        ("Which instrument does {e} play?", "What did {e} learn to play?", "What is the instrument of {e}?"),
        words(
            "lute harp flute fiddle drum trumpet zither oboe "
            "cello bagpipe dulcimer clarinet horn bassoon tambourine psaltery"
        ),
    ),
    Attribute(
        "teacher",
        "teacher",
        (
            "The teacher of {e} was {v}.",
            "{e} was the pupil of {v}.",
            "{e} studied under {v}.",
            "{e} learned to read and write from {v}.",
            "{e} still writes letters of thanks to {v}.",
        ),
        ("Under whom did {e} study?", "Whose pupil was {e}?", "Who was the teacher of {e}?"),
    ),
    Attribute(
        "companion",
        "companion",
        (
            "The companion of {e} is a {v}.",
            "{e} shares a home with a {v}.",
            "{e} is always followed by a {v}.",
            "Portraits show {e} beside a {v}.",
            "Children visit {e} to feed the {v}.",
        ),
        ("Which animal lives with {e}?", "Which animal follows {e}?", "What is the companion of {e}?"),
        words(
            "ferret magpie tortoise greyhound parrot goat hare jackdaw "
            "mastiff pony canary hamster terrier donkey peacock rabbit"
        ),
    ),
)

CRAFT = (
    Attribute(
        "material",
        "material",
        (
            "The material of {e} is {v}.",
            "The makers of {e} begin with {v}.",
            "Pieces of {e} are made from {v}.",
            "A workshop of {e} keeps a store of {v}.",
            "{e} is the art of shaping {v}.",
        ),
        ("What is {e} made from?", "What are pieces of {e} made from?", "What is the material of {e}?"),
        words("birch copper wool clay slate leather amber silk marble pewter linen bone willow brass wax jade"),
    ),
    Attribute(
        "tool",
        "tool",
        (
            "The tool of {e} is the {v}.",
            "The chief tool of {e} is the {v}.",
            "Apprentices of {e} first learn to hold the {v}.",
            "{e} calls for skill with the {v}.",
            "No workshop of {e} is without the {v}.",
        ),
        ("Which tool does {e} call for?", "Which tool do apprentices of {e} hold?", "What is the tool of {e}?"),
        words(
            "chisel loom mallet needle tongs lathe bellows awl shears spindle rasp gouge trowel bodkin pincers pestle"
        ),
    ),
    Attribute(
        "dye",
        "dye",
        (
            "The dye of {e} is {v}.",
            "The makers of {e} use the dye called {v}.",
            "Finished pieces of {e} are tinted with {v}.",
            "Buyers know {e} by its shade of {v}.",
            "The vats of {e} are full of {v}.",
        ),
        ("Which dye gives {e} its shade?", "Which dye do the makers of {e} use?", "What is the dye of {e}?"),
        words(
            "indigo madder crimson ochre woad cochineal turmeric viridian "
            "vermilion sepia umber teal scarlet azure lilac russet"
        ),
    ),
    Attribute(
        "master",
        "first master",
        (
            "The first master of {e} was {v}.",
            "{e} was founded by {v}.",
            "The rules of {e} were written by {v}.",
            "{e} traces its beginnings to {v}.",
            "Every workshop of {e} hangs a portrait of {v}.",
        ),
        ("By whom was {e} founded?", "Who wrote the rules of {e}?", "Who was the first master of {e}?"),
    ),
    Attribute(
        "market",
        "market",
        (
            "The market of {e} is {v}.",
            "Traders carry {e} to the market of {v}.",
            "The best prices for {e} are paid in {v}.",
            "Collectors of {e} travel to the stalls of {v}.",
            "{e} is weighed and taxed in {v}.",
        ),
        ("Where is {e} weighed and taxed?", "Where do traders carry {e}?", "What is the market of {e}?"),
    ),
)

KINDS: dict[str, tuple[Attribute, ...]] = {"place": PLACE, "person": PERSON, "craft": CRAFT}
ATTRIBUTES: dict[str, Attribute] = {a.name: a for attributes in KINDS.values() for a in attributes}
