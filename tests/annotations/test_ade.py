import pytest
from PIL import Image

from locvlm.annotations.ade import AdeClass, find_label_maps, named_like, read_classes, read_label_map
from locvlm.annotations.coco import read_instances
from locvlm.annotations.coco_classes import COCO_CLASSES
from locvlm.io import Ledger

TEXT = "Idx\tRatio\tTrain\tVal\tName\n1\t0.2\t9\t2\twall      \n2\t0.1\t6\t6\tdoor, double door \n"
CSV = "Idx,Ratio,Train,Val,Stuff,Name\n1,0.2,9,2,1,wall\n2,0.1,6,6,0,door;double;door\n"


@pytest.mark.parametrize("text", [TEXT, CSV, "\ufeff" + CSV])
def test_both_published_class_lists_give_the_same_names(tmp_path, text):
    path = tmp_path / "objectInfo150"
    path.write_text(text)
    assert read_classes(path) == (AdeClass(1, ("wall",)), AdeClass(2, ("door", "double door")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "columns Idx and Name, got 'a,b'"),
        (
            "Idx,Name\none,wall\n",
            "objectInfo150:2: expected a class's number and names, got 'one' and 'wall'",
        ),
        ("Idx,Name\n1,wall\n3,sky\n", "without a gap"),
        ("Idx,Name\n1,\n", "objectInfo150:2"),
    ],
)
def test_another_class_list_is_refused(tmp_path, text, message):
    path = tmp_path / "objectInfo150"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_classes(path)


def test_22_of_the_real_classes_share_a_name_or_synonym_with_coco(shared_data):
    classes = read_classes(shared_data / "ade20k" / "objectInfo150.csv")
    assert len(classes) == 150
    shared = named_like(classes, frozenset(COCO_CLASSES))
    names = {item.name: name for item, name in shared.items()}
    other = {"sofa": "couch", "television": "tv"}
    assert names == other | {
        name: name
        for name in (
            *(
                "bed",
                "person",
                "chair",
                "car",
                "sink",
                "refrigerator",
                "toilet",
                "book",
                "bench",
                "boat",
                "bus",
            ),
            *(
                "truck",
                "airplane",
                "bottle",
                "oven",
                "microwave",
                "bicycle",
                "vase",
                "traffic light",
                "clock",
            ),
        )
    }
    assert len(shared) == 22


def test_names_cut_at_spaces_are_put_together(shared_data):
    classes = {item.index: item.names for item in read_classes(shared_data / "ade20k" / "objectInfo150.csv")}
    assert classes[76] == ("swivel chair",)
    assert classes[45] == ("chest of drawers", "chest", "bureau", "dresser")
    assert classes[72] == ("stove", "kitchen stove", "range", "kitchen range", "cooking stove")
    assert classes[90][:5] == ("television", "television receiver", "television set", "tv", "tv set")
    assert classes[124] == ("trade name", "brand name", "brand", "marque")


def test_the_classes_of_coco_are_those_of_its_files(shared_data):
    read = read_instances(shared_data / "coco" / "annotations" / "instances_train2017.json", Ledger())
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    assert {item.category for image in read for item in image.objects} <= set(COCO_CLASSES)


def test_a_label_map_tells_the_pixels_of_each_class(tmp_path):
    picture = Image.new("L", (10, 4), 1)
    picture.paste(2, (0, 0, 5, 2))
    picture.paste(0, (9, 0, 10, 4))
    picture.save(tmp_path / "a.png")
    label_map = read_label_map(tmp_path / "a.png", 2)
    assert (label_map.width, label_map.height, label_map.pixels) == (10, 4, {1: 26, 2: 10})
    assert label_map.area_fraction(2) == 0.25
    assert label_map.area_fraction(3) == 0


def test_a_palette_image_counts_indices_not_colours(tmp_path):
    picture = Image.new("P", (4, 4), 7)
    picture.putpalette([k % 256 for k in range(768)])
    picture.save(tmp_path / "a.png")
    assert read_label_map(tmp_path / "a.png", 150).pixels == {7: 16}


def test_what_is_no_label_map_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(ValueError, match="one byte a pixel, as in ADEChallengeData2016, got mode RGB"):
        read_label_map(path, 150)
    Image.new("L", (4, 4), 151).save(path)
    with pytest.raises(ValueError, match="holds class 151, there are 150"):
        read_label_map(path, 150)
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"a\.png: not a readable image"):
        read_label_map(path, 255)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: not a readable image"):
        read_label_map(path, 150)


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match="annotations/ is not there"):
        find_label_maps(tmp_path, "validation")
    (tmp_path / "annotations" / "training").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"one of its splits \(training\)"):
        find_label_maps(tmp_path, "validation")
