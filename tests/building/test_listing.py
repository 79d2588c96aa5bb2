import json
import zipfile

import pytest

from locvlm.building.listing import hash_of_names, list_files, read_list


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_of_a_folder_are_listed_in_order_with_their_folders(tmp_path):
    touch(tmp_path, "b.JPG", "a/c.png", "a/b.jpeg", "notes.txt", ".hidden.jpg", ".git/x.jpg", "a/.b.jpg")
    assert list_files(tmp_path, ("jpg", "jpeg", "png")) == ["a/b.jpeg", "a/c.png", "b.JPG"]


def test_a_zip_is_listed_as_a_folder_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in ("b/1.jpg", "a.png", "__MACOSX/b/1.jpg", "c.txt"):
            archive.writestr(name, b"")
    assert list_files(tmp_path / "images.zip", ("jpg", "png")) == ["a.png", "b/1.jpg"]


def test_where_nothing_is_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no such"):
        list_files(tmp_path / "missing", ("jpg",))
    with pytest.raises(ValueError, match=r"missing\.zip"):
        list_files(tmp_path / "missing.zip", ("jpg",))
    touch(tmp_path, "a.txt")
    with pytest.raises(ValueError, match="holds no file that ends in jpg, png, of 1 files"):
        list_files(tmp_path, ("jpg", "png"))
    with pytest.raises(ValueError, match="no such folder or zip"):
        list_files(tmp_path / "a.txt", ("jpg",))


def test_lists_of_paths_and_llava_json(tmp_path):
    (tmp_path / "a.txt").write_text("b.jpg\n\n a.jpg \nb.jpg\n")
    assert read_list(tmp_path / "a.txt") == ["b.jpg", "a.jpg"]
    rows = [{"image": "x.jpg"}, {"conversations": []}, {"image": "y.jpg"}, {"image": "x.jpg"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read_list(tmp_path / "a.json") == ["x.jpg", "y.jpg"]


def test_lists_of_nothing_and_of_no_paths_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"a\.txt lists no image"):
        read_list(tmp_path / "a.txt")
    (tmp_path / "a.json").write_text(json.dumps([{"image": ["a", "b"]}]))
    with pytest.raises(ValueError, match=r"a\.json: entry 0: 'image' must be a path"):
        read_list(tmp_path / "a.json")
    (tmp_path / "b.json").write_text(json.dumps({"images": []}))
    with pytest.raises(ValueError, match="expected LLaVA JSON"):
        read_list(tmp_path / "b.json")


def test_the_hash_knows_other_names_and_another_order():
    hashes = {hash_of_names(names) for names in (["a", "b"], ["b", "a"], ["ab"], ["a"], [])}
    assert len(hashes) == 5
