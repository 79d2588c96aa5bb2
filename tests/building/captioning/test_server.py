"""A real server on this host as the captioner."""

import base64
import io
import zipfile

import pytest
from PIL import Image

from locvlm.building.captioning.captioner import Picture, Prompted
from locvlm.building.captioning.server import ServerCaptioner, encoded
from locvlm.chat_server import ChatServer, ServerError, ServerOptions


def save(path, kind="JPEG", mode="RGB", exif=None):
    image = Image.linear_gradient("L").resize((40, 30)).convert(mode)
    tags = Image.Exif()
    if exif:
        tags[0x0112] = exif
    image.save(path, kind, exif=tags)
    return path


def picture(path) -> Picture:
    return Picture(path=path, image=Image.new("RGB", (40, 30), "teal"))


def open_captioner(endpoint, **options) -> ServerCaptioner:
    patience = {"timeout_s": 5.0, "num_retries": 0, "concurrency": 4}
    server = ChatServer(ServerOptions(url=endpoint.url, **{**patience, **options}))
    return ServerCaptioner(server=server, max_new_tokens=16)


def image_of(question) -> bytes:
    return base64.b64decode(question["messages"][-1]["content"][0]["image_url"]["url"].partition(",")[2])


def prompt_of(question) -> str:
    return question["messages"][-1]["content"][-1]["text"]


def test_answers_belong_to_their_pictures_and_prompts(serve, tmp_path):
    endpoint = serve(lambda question, number: f"re: {prompt_of(question)}")
    captioner = open_captioner(endpoint)
    path = save(tmp_path / "a.jpg")
    batches = [
        [
            Prompted(picture=picture(path), prompts=(f"{k}a", f"{k}b")),
            Prompted(picture=picture(path), prompts=(f"{k}c",)),
        ]
        for k in range(10)
    ]
    answers = [
        [[a.text for a in of_picture] for of_picture in batch] for batch in captioner.describe(batches)
    ]
    assert answers == [[[f"re: {k}a", f"re: {k}b"], [f"re: {k}c"]] for k in range(10)]
    assert {image_of(question) for question in endpoint.questions} == {path.read_bytes()}
    assert captioner.name == "tiny"


def test_a_failure_is_that_of_its_prompt(serve, tmp_path):
    endpoint = serve(lambda question, number: 400 if prompt_of(question) == "b" else "fine")
    asked = Prompted(picture=picture(save(tmp_path / "a.jpg")), prompts=("a", "b", "c"))
    [[answers]] = open_captioner(endpoint).describe([[asked]])
    assert [bool(answer.failure) for answer in answers] == [False, True, False]


def test_a_server_that_is_down_stops_the_run(serve, tmp_path):
    endpoint = serve(lambda question, number: 500)
    asked = Prompted(picture=picture(save(tmp_path / "a.jpg")), prompts=("a",))
    captioner = open_captioner(endpoint, max_failures_in_a_row=3)
    with pytest.raises(ServerError, match="seems to be down"):
        list(captioner.describe([[asked]] * 50))
    assert len(endpoint.questions) < 30


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_files_that_servers_read_go_as_they_are(tmp_path, kind):
    path = save(tmp_path / "a", kind)
    assert encoded(picture(path)) == path.read_bytes()


def test_also_out_of_a_zip(tmp_path):
    path = save(tmp_path / "a.jpg")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(path, "deep/a.jpg")
    assert encoded(picture(tmp_path / "images.zip/deep/a.jpg")) == path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "BMP"},
        {"kind": "GIF", "mode": "P"},
        {"kind": "PNG", "mode": "RGBA"},
        {"kind": "JPEG", "mode": "CMYK"},
        {"kind": "JPEG", "exif": 6},
    ],
)
def test_what_servers_see_differently_goes_as_the_pixels_that_boxes_are_in(tmp_path, options):
    shown = picture(save(tmp_path / "a", **options))
    with Image.open(io.BytesIO(encoded(shown))) as image:
        assert image.format == "PNG"
        assert image.tobytes() == shown.image.tobytes()
