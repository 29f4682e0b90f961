"""The measure that says whether work grows with its size tells a line from a square."""

from tests.growth import grows_with_its_size


def test_a_line_grows_with_its_size():
    assert grows_with_its_size(lambda size: sum(range(500 * size)), 500)


def test_a_square_does_not():
    assert not grows_with_its_size(lambda size: sum(i for _ in range(size) for i in range(size)), 300)
