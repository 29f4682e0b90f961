"""Demonstrations that a face hands over are measured before they are read."""

import pytest

from cedkv.session.limits import LimitError, Limits
from cedkv.session.service import Service
from cedkv.session.store import SessionStore


def test_a_text_that_is_too_long_is_not_even_read(tmp_path):
    limits = Limits(demo_chars=20)
    service = Service(limits, SessionStore(tmp_path, limits, []))
    with pytest.raises(LimitError, match="21 characters of demonstrations: this deployment allows 20"):
        service.read_demos("no demonstrations at all"[:21])
    assert service.parse_demos("lift -> lifted") == [("lift", "lifted")]
