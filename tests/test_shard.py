import pytest

from locvlm.shard import Shard


def test_shards_part_the_items_without_gap_or_overlap():
    items = list(range(23))
    for count in (1, 2, 5, 23, 40):
        parts = [Shard(index, count).take(items) for index in range(count)]
        assert [item for part in parts for item in part] == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["3", "3/3", "-1/3", "a/3", "1/", "/2", "0/0"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="INDEX/COUNT"):
        Shard.parse(text)
