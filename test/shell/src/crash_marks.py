# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds crash images of a recorded run of crash_writer.py to its logs.

crash_marks.py mark DIRECTORY LOG
  until it is killed: puts marks into the recording that tell how long the logs are, so that what
  stands before was acknowledged before.
crash_marks.py serve LOG QUESTIONS ANSWERS
  two FIFOs, as crash_apps.py has them.
"""
import functools
import os
import sys
import time

from crash_server import serve
from crash_verify import problems_of, read_log

WRITERS = 2


def log_bytes(log):
    return os.path.getsize(log) if os.path.exists(log) else 0


def mark(directory, log):
    while True:
        lengths = ' '.join(str(log_bytes(f'{log}.{number}')) for number in range(WRITERS))
        os.setxattr(directory, 'system.stablefs.mark', lengths.encode())
        time.sleep(0.005)


def answer(log, mark_text, directory):
    lengths = [int(length) for length in mark_text.split()] or [0] * WRITERS
    for number, length in enumerate(lengths):
        history = read_log(f'{log}.{number}', length)
        for problem in problems_of(f'{directory}/{number}', *history):
            return f'{number}/{problem}'
    return 'yes'


if sys.argv[1] == 'mark':
    mark(*sys.argv[2:])
else:
    serve(functools.partial(answer, sys.argv[2]), *sys.argv[3:])
