"""The words by which people name a class, to tell whether a description is about it at all.

Any class is named by its own words and by the last of them ("wine glass": glass), in the singular and the
plural. For COCO's classes there are other words that captions use; a word may name several classes.
"""

import functools
import re

_OTHER_WORDS = {
    "person": "man woman boy girl child kid baby toddler infant guy lady gentleman adult teenager human "
    "individual someone figure player skier snowboarder surfer skateboarder skater rider batter catcher "
    "pitcher umpire athlete cyclist biker motorcyclist pedestrian chef cook worker officer policeman soldier "
    "student driver passenger couple bride groom father mother son daughter crowd tourist",
    "bicycle": "bike cycle",
    "car": "vehicle automobile sedan taxi cab suv minivan van hatchback",
    "motorcycle": "motorbike bike scooter moped",
    "airplane": "plane aeroplane aircraft jet jetliner airliner biplane",
    "bus": "coach minibus double-decker",
    "train": "locomotive tram subway railcar engine",
    "truck": "lorry pickup van vehicle semi trailer",
    "boat": "ship sailboat canoe kayak ferry yacht vessel rowboat speedboat raft gondola",
    "traffic light": "stoplight signal",
    "fire hydrant": "",
    "stop sign": "",
    "parking meter": "",
    "bird": "duck goose pigeon seagull gull parrot owl eagle swan chicken rooster penguin flamingo hawk crow "
    "pelican ostrich peacock heron sparrow turkey",
    "cat": "kitten kitty feline tabby",
    "dog": "puppy pup canine terrier retriever bulldog poodle husky dachshund corgi labrador",
    "horse": "pony foal stallion mare colt",
    "sheep": "lamb ram ewe",
    "cow": "cattle bull calf ox heifer steer",
    "bear": "cub",
    "backpack": "bag rucksack knapsack pack",
    "umbrella": "parasol",
    "handbag": "bag purse tote clutch",
    "tie": "necktie bowtie",
    "suitcase": "luggage bag briefcase trunk",
    "frisbee": "disc disk",
    "skis": "ski",
    "snowboard": "board",
    "sports ball": "football basketball baseball volleyball softball",
    "baseball glove": "mitt",
    "skateboard": "board longboard",
    "surfboard": "board",
    "tennis racket": "racquet",
    "wine glass": "goblet wineglass",
    "cup": "mug glass tumbler",
    "knife": "blade",
    "bowl": "dish",
    "sandwich": "burger hamburger cheeseburger panini sub wrap",
    "orange": "tangerine clementine mandarin",
    "hot dog": "hotdog sausage frankfurter",
    "pizza": "slice pie",
    "donut": "doughnut pastry",
    "cake": "cupcake cheesecake pastry dessert",
    "chair": "armchair seat stool recliner",
    "couch": "sofa loveseat settee futon",
    "potted plant": "houseplant flower",
    "bed": "mattress bunk cot crib",
    "toilet": "commode urinal",
    "tv": "television monitor screen",
    "laptop": "computer notebook macbook",
    "remote": "controller",
    "cell phone": "cellphone smartphone iphone mobile",
    "oven": "stove range cooker",
    "sink": "basin washbasin",
    "refrigerator": "fridge freezer",
    "book": "novel textbook notebook",
    "clock": "watch",
    "vase": "urn jar",
    "scissors": "shears",
    "teddy bear": "teddy plush toy",
    "hair drier": "hairdryer dryer blow-dryer",
    "toothbrush": "brush",
}
_LAST_WORD_MISLEADS = {"hot dog"}  # it is no dog
_PLURALS = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "gentleman": "gentlemen",
    "policeman": "policemen",
    "child": "children",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
}


def names_class(description: str, category: str) -> bool:
    """Whether a description holds a word for the class.

    Example:
        names_class("Two women near a fridge", "person")        True
        names_class("Two women near a fridge", "refrigerator")  True
        names_class("a dog on the left", "hot dog")             False
    """
    return _pattern(category.lower()).search(description.lower()) is not None


@functools.lru_cache(maxsize=4096)
def _pattern(category: str) -> re.Pattern[str]:
    words = {category, *_OTHER_WORDS.get(category, "").split()}
    if category not in _LAST_WORD_MISLEADS:
        words.add(category.split()[-1])
    forms = {form for word in words for form in _forms(word)}
    # longest first is no matter for a search; sorted so that the pattern is the same in every process
    return re.compile(r"(?<!\w)(?:" + "|".join(re.escape(form) for form in sorted(forms)) + r")(?!\w)")


def _forms(word: str) -> set[str]:
    """A word in the singular and the plural, by the rules of spelling; some forms are no words."""
    head, last = word[: word.rfind(" ") + 1], word[word.rfind(" ") + 1 :]
    forms = {last, last + "s"}
    if last in _PLURALS:
        forms.add(_PLURALS[last])
    if re.search(r"(?:s|x|z|ch|sh|o)$", last):
        forms.add(last + "es")
    if re.search(r"[^aeiou]y$", last):
        forms.add(last[:-1] + "ies")
    if match := re.search(r"fe?$", last):
        forms.add(last[: match.start()] + "ves")
    if last.endswith("s") and not last.endswith("ss"):  # the class itself is a plural
        forms.add(last[:-1])
    return {head + form for form in forms}
