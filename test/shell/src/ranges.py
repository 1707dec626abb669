# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes ranges of a file in every way, at odd places, against a model of its bytes.

  ranges.py errors FILE             what is refused, and how
  ranges.py random FILE COPY COUNT SEED  COPY gets the bytes that FILE must have
"""
import ctypes
import errno
import os
import random
import sys

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
LARGEST = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(descriptor, mode, offset, length):
    if libc.fallocate(descriptor, mode, offset, length) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def errors(path):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for name, mode, offset, length in (
            ('preallocate', 0, 0, 4096),
            ('preallocate, keep size', KEEP_SIZE, 0, 4096),
            ('punch without keep size', PUNCH_HOLE, 0, 4096),
            ('collapse', COLLAPSE, 0, 4096),
            ('insert', INSERT, 0, 4096),
            ('punch nothing', PUNCH_HOLE | KEEP_SIZE, 0, 0),
            ('punch before the start', PUNCH_HOLE | KEEP_SIZE, -1, 10),
            ('zero beyond the largest file', ZERO, (1 << 63) - 5000, 4999),
            ('zero past the largest number', ZERO, (1 << 63) - 5, 10),
            ('punch an empty file', PUNCH_HOLE | KEEP_SIZE, 1, 10000),
            ('zero behind the end, keep size', ZERO | KEEP_SIZE, 1, 10000)):
        try:
            fallocate(descriptor, mode, offset, length)
            print(f'{name}: done')
        except OSError as error:
            print(f'{name}: {errno.errorcode[error.errno]}')
    print('size', os.fstat(descriptor).st_size)


class Model:
    def __init__(self):
        self.data = bytearray()

    def grow(self, end):
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))

    def write(self, offset, content):
        self.grow(offset + len(content))
        self.data[offset:offset + len(content)] = content

    def zero(self, offset, end):
        end = min(end, len(self.data))
        if offset < end:
            self.data[offset:end] = bytes(end - offset)


def step(descriptor, model, chance):
    offset = chance.randrange(LARGEST)
    if chance.random() < 0.3:
        offset = min(max(0, len(model.data) - chance.randrange(9000)), LARGEST - 1)
    length = 1 + chance.randrange(chance.choice((100, 5000, 60000, 300000)))
    length = min(length, LARGEST - offset)
    what = chance.randrange(11)
    if what < 4:
        length = min(length, 20000)
        content = chance.randbytes(length)
        assert os.pwrite(descriptor, content, offset) == length
        model.write(offset, content)
        if what == 0:  # dirty right up to the edge
            fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, offset + length // 2, length)
            model.zero(offset + length // 2, offset + length // 2 + length)
    elif what == 4:
        fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, offset, length)
        model.zero(offset, offset + length)
    elif what == 5:
        fallocate(descriptor, ZERO | KEEP_SIZE, offset, length)
        model.zero(offset, offset + length)
    elif what == 6:
        fallocate(descriptor, ZERO, offset, length)
        model.zero(offset, offset + length)
        model.grow(offset + length)
    elif what == 7 and chance.random() < 0.3:
        os.ftruncate(descriptor, offset)
        del model.data[offset:]
        model.grow(offset)
    elif what == 9:
        fallocate(descriptor, KEEP_SIZE, offset, length)
    elif what == 10:
        fallocate(descriptor, 0, offset, length)
        model.grow(offset + length)
    elif what == 8:
        got = os.pread(descriptor, length, offset)
        assert got == bytes(model.data[offset:offset + length]), f'read at {offset}'
        if chance.random() < 0.2:
            os.fsync(descriptor)


def compare(descriptor, model, when):
    assert os.fstat(descriptor).st_size == len(model.data), f'size {when}'
    got = os.pread(descriptor, LARGEST + 1, 0)
    for at in range(0, len(got), 512):
        assert got[at:at + 512] == bytes(model.data[at:at + 512]), f'bytes at {at} {when}'


def random_steps(path, copy, count, seed):
    chance = random.Random(seed)
    model = Model()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    for number in range(count):
        step(descriptor, model, chance)
        if number % 100 == 99:
            compare(descriptor, model, f'after step {number}')
    compare(descriptor, model, 'at the end')
    with open(copy, 'wb') as out:
        out.write(model.data)


if __name__ == '__main__':
    if sys.argv[1] == 'errors':
        errors(sys.argv[2])
    else:
        random_steps(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
