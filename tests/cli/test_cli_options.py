"""What options offer is what the library has."""

from typing import get_args

from trivec.cli import options
from trivec.engines.precisions import ENGINES, PRECISION_CHOICES


def test_choices_are_those_of_the_library():
    assert get_args(options.Precision) == PRECISION_CHOICES
    assert get_args(options.Engine) == ENGINES
