"""Loads a tokenizer and has it read every character, in a process that may crash, hang or be killed for it.

A program of its own, that `tokenizer_file` starts with a bare Python: nothing of trivec is imported.

    python -I -S tokenizer_trial.py SYS_PATH_AS_JSON CPU_SECONDS < tokenizer.json
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress

BEGUN = "begun"  # printed once whatever goes wrong is the tokenizer's fault
MEMORY = 2 << 30  # bytes of address space; the tokenizer of BGE-M3 takes a third
# The planes in which text is written; what lies beyond is unassigned, or for private use.
_PLANES = range(0x30000)
_ENCODED_LINES = 12  # the alphabets; most of what follows are ideographs
_SURROGATES = range(0xD800, 0xE000)
_TEXTS = (
    "",
    " \t\n",
    "A boat crosses the lake.",
    "e\u0301\u0327a\u0308" * 50,
    "\ufdfa" * 20,
    "\u1100\u1161\u11a8" * 20,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 20,
    "a" * 3000,
    "漢字かな交じり文" * 300,
)


def main() -> None:
    """Print `begun`, and then as JSON what went wrong, or null."""
    sys.path[:] = json.loads(sys.argv[1])
    from tokenizers import Tokenizer

    with suppress(ImportError):  # elsewhere, the parent's clock has to do
        import resource

        seconds = int(sys.argv[2])
        for limit, most in (
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_CORE, 0),
        ):
            with suppress(ValueError, OSError):  # a lower one is set already
                resource.setrlimit(limit, (most, most))
    content = sys.stdin.buffer.read()
    sys.stdout.write(f"{BEGUN}\n")
    sys.stdout.flush()
    failure = None
    try:
        tokenizer = Tokenizer.from_buffer(content)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        characters = [chr(code) for code in _PLANES if code not in _SURROGATES]
        lines = [" ".join(characters[start : start + 1024]) for start in range(0, len(characters), 1024)]
        for line in lines if tokenizer.normalizer is not None else ():
            tokenizer.normalizer.normalize_str(line)  # what depends on the character; takes a tenth of encoding
        for text in (*_TEXTS, *lines[:_ENCODED_LINES]):
            tokenizer.encode(text)
    except BaseException as error:  # a panic of the Rust side is no Exception
        failure = str(error) or type(error).__name__
    sys.stdout.write(json.dumps(failure))


if __name__ == "__main__":
    main()
