"""TEMPORARY"""


class ConvertedCache:
    def load_or_convert(self, source, precision, convert):
        return dict(convert())
