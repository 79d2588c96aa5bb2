"""Video question files in their published forms, written small."""

import json

import pytest

from locvlm.annotations.video_qa import read_tgif_qa, read_video_qa, read_video_qa_list

QUESTIONS = [
    {"video_name": "1QIU", "question": "is the athlete wearing trousers", "question_id": "v_1QIU_3"},
    {"video_name": "9eni", "question": "what is behind the girl ", "question_id": "v_9eni_1"},
    {"video_name": "1QIU", "question": "what does he do", "question_id": "v_1QIU_1"},
]
ANSWERS = [  # in another order than the questions: the question_id joins them
    {"answer": "wall", "type": 1, "question_id": "v_9eni_1"},
    {"answer": "no", "type": 3, "question_id": "v_1QIU_3"},
    {"answer": "run", "type": 0, "question_id": "v_1QIU_1"},
    {"answer": "red", "type": 4, "question_id": "of another split"},
]
LISTED = [
    {"answer": "couch", "category_id": 14, "id": 158581, "question": "what is it?", "video_id": 6513},
    {"answer": "two", "category_id": 14, "id": 158582, "question": "How many are there?", "video_id": 6514},
    {"answer": "girl", "category_id": 14, "id": 158583, "question": "which girl sings?", "video_id": 6513},
]
FRAMEQA = """gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription
tumblr_a_250\twhat is in the cone ?\tcookie\t0\tFRAMEQA1159\t27138\ta cookie is in it .
tumblr_b_250\twhere is the guy . ?\tmachine\t3\tFRAMEQA9405\t2853\ta guy is in a machine .
tumblr_a_250\twhat color is it ?\tred\t2\tFRAMEQA7\t27138\tit is red .
"""
ACTION = """gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\tvid_id\tkey
tumblr_c_250\tWhat does it do 10 times ?\tfall\ttalk\tsit\tflap wings\trun\t3\tACTION4\t26
"""
COUNT = """gif_name\tquestion\tanswer\tvid_id\tkey
tumblr_d_250\tHow many times does he wave ?\t5\tCOUNT2\t16
"""


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write_file


@pytest.fixture
def pair(write):
    """A questions file and its answers file."""
    return write("test_q.json", QUESTIONS), write("test_a.json", ANSWERS)


def test_a_video_has_one_record_with_its_questions_and_their_answers(pair):
    path, answers = pair
    first, second = read_video_qa(path, answers=answers, videos="v_{}.mkv", types="activitynet")
    assert (first.id, first.image, first.video) == ("1QIU", None, "v_1QIU.mkv")
    assert (first.width, first.height, first.source) == (0, 0, {"file": "test_q.json"})
    assert [(q.question, q.answer) for q in first.queries] == [
        ("is the athlete wearing trousers", "no"),
        ("what does he do", "run"),
    ]
    assert {query.objective for query in first.queries} == {"vqa"}
    assert (second.video, second.queries[0].question) == ("v_9eni.mkv", "what is behind the girl")


def test_types_of_activitynet_qa_are_four_of_questions_and_nine_of_answers(pair):
    first, second = read_video_qa(pair[0], answers=pair[1], types="activitynet")
    sources = [query.source for query in (*first.queries, *second.queries)]
    assert sources[0] == {
        "question_id": "v_1QIU_3",
        "question": "is the athlete wearing trousers",
        "question_type": "free",
        "answer_type": "yes/no",
    }
    assert [(s["question_type"], s["answer_type"]) for s in sources[1:]] == [
        ("motion", "motion"),
        ("spatial relation", "spatial relation"),
    ]


def test_questions_of_other_data_sets_are_told_apart_by_their_first_word(pair):
    first, second = read_video_qa(pair[0], answers=pair[1])
    assert [query.source["question_type"] for query in first.queries] == ["other", "what"]
    assert "answer_type" not in second.queries[0].source


def test_a_list_names_videos_by_number(write):
    first, second = read_video_qa_list(write("test_qa.json", LISTED))
    assert (first.video, second.video) == ("video6513.mp4", "video6514.mp4")
    assert [query.answer for query in first.queries] == ["couch", "girl"]
    assert [query.source["question_type"] for query in first.queries] == ["what", "other"]
    assert second.queries[0].source["question_id"] == "158582"
    assert second.queries[0].source["question_type"] == "how"


def test_a_mapping_names_the_clips_of_msvd_qa(write):
    mapping = write("youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid6513\nbQJQ_162_169 vid6514\n")
    records = list(
        read_video_qa_list(write("test_qa.json", LISTED), videos="YouTubeClips/{}.avi", mapping=mapping)
    )
    assert [r.video for r in records] == [
        "YouTubeClips/-4wsuPCjDBc_5_15.avi",
        "YouTubeClips/bQJQ_162_169.avi",
    ]


def test_frameqa_has_four_types_of_answers(write):
    first, second = read_tgif_qa(write("Test_frameqa_question.csv", FRAMEQA))
    assert (first.video, second.video) == ("tumblr_a_250.gif", "tumblr_b_250.gif")
    assert [query.answer for query in first.queries] == ["cookie", "red"]
    assert [query.source["answer_type"] for query in first.queries] == ["object", "color"]
    assert second.queries[0].source == {
        "question_id": "FRAMEQA9405",
        "question": "where is the guy . ?",
        "question_type": "frameqa",
        "answer_type": "location",
    }


def test_of_a_choice_the_text_is_the_answer(write):
    (action,) = read_tgif_qa(write("Test_action_question.csv", ACTION))
    (count,) = read_tgif_qa(write("Test_count_question.csv", COUNT), videos="{}.mp4")
    assert action.queries[0].answer == "flap wings"
    assert action.queries[0].source["options"] == ["fall", "talk", "sit", "flap wings", "run"]
    assert action.queries[0].source["question_type"] == "action"
    assert (count.video, count.queries[0].answer) == ("tumblr_d_250.mp4", "5")
    assert count.queries[0].source["question_type"] == "count"


@pytest.mark.parametrize(
    ("questions", "answers", "message"),
    [
        (QUESTIONS, ANSWERS[1:], "entry 1: .*test_a.json does not answer 'v_9eni_1'; give the two files"),
        (QUESTIONS, [*ANSWERS, ANSWERS[0]], "test_a.json: entry 4: .*'v_9eni_1' is answered twice"),
        ([*QUESTIONS, QUESTIONS[0]], ANSWERS, "test_q.json: entry 3: the id 'v_1QIU_3' is there twice"),
        ([{**QUESTIONS[0], "question": " "}], ANSWERS, "entry 0: expected a text .* under 'question'"),
        ([{**QUESTIONS[0], "video_name": None}], ANSWERS, "under 'video_name', got None"),
        (QUESTIONS[:1], [{**ANSWERS[1], "answer": True}], "entry 0: .* under 'answer', got True"),
        (QUESTIONS[:1], [{**ANSWERS[1], "type": 9}], "entry 0: ActivityNet-QA has the types 0 to 8, got 9"),
        (QUESTIONS[:1], [{**ANSWERS[1], "type": "3"}], "ActivityNet-QA has the types 0 to 8, got '3'"),
        ([], ANSWERS, "test_q.json: expected questions about videos, there are none"),
        ({"questions": []}, ANSWERS, "test_q.json: expected one array of objects, got dict"),
        ([1], ANSWERS, "entry 0: expected an object, got 1"),
    ],
)
def test_a_pair_of_files_that_does_not_fit_is_refused(write, questions, answers, message):
    path, beside = write("test_q.json", questions), write("test_a.json", answers)
    with pytest.raises(ValueError, match=message):
        list(read_video_qa(path, answers=beside, types="activitynet"))


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (FRAMEQA.replace("\t27138\ta cookie", "\t27138\tx\ta cookie"), ":2: expected 7 columns"),
        (FRAMEQA.replace("\t2853\ta guy is in a machine .", ""), ":3: expected 7 columns"),
        (FRAMEQA.replace("FRAMEQA7", "FRAMEQA1159"), ":4: the id 'FRAMEQA1159' is there twice"),
        (FRAMEQA.replace("FRAMEQA7", "7"), ":4: expected a vid_id such as FRAMEQA1159"),
        (FRAMEQA.replace("cookie\t0", "cookie\t4"), ":2: type must be 0 to 3, got '4'"),
        (FRAMEQA.replace("gif_name", "gif"), ":2: .* under 'gif_name', got None"),
        (ACTION.replace("run\t3", "run\t5"), ":2: answer must be 0 to 4, got '5'"),
        (ACTION.replace("talk", " "), ":2: .* under 'a2', got ' '"),
        (FRAMEQA.splitlines()[0], "there are none"),
    ],
)
def test_a_sheet_that_does_not_fit_is_refused_with_its_line(write, sheet, message):
    with pytest.raises(ValueError, match=message):
        list(read_tgif_qa(write("sheet.csv", sheet)))


def test_a_video_without_a_clip_and_a_name_without_a_place_are_refused(write):
    path = write("test_qa.json", LISTED)
    with pytest.raises(ValueError, match=r"entry 1: .*map\.txt has no clip for vid6514"):
        read_video_qa_list(path, mapping=write("map.txt", "clip vid6513\n"))
    with pytest.raises(ValueError, match=r"map\.txt:2: expected .CLIP vidN., got 'clip'"):
        read_video_qa_list(path, mapping=write("map.txt", "clip vid6513\nclip\n"))
    with pytest.raises(ValueError, match=r"a file name with \{\} for the video's name, got 'video\.mp4'"):
        read_video_qa_list(path, videos="video.mp4")
