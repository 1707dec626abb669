# SPDX-License-Identifier: GPL-2.0-or-later
"""Preallocated space keeps its promise on a full filesystem.

  prealloc.py fill FILE          writes until there is no space left
  prealloc.py first FILE SEED    writes every block of FILE once, in random order, by write(2)
  prealloc.py direct FILE SEED N writes N times anywhere past the cache: never less than asked for
  prealloc.py again FILE SEED N  overwrites N times a half of FILE, by write(2) and by mmap in turn
FILE.model keeps the bytes that FILE must have (in the current directory).
"""
import errno
import mmap
import os
import random
import sys

BLOCK = 4096


def model_of(path):
    return os.path.basename(path) + '.model'


def fill(path):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    for size in (1 << 20, 65536, BLOCK):
        while True:
            try:
                if os.write(descriptor, os.urandom(size)) < size:
                    break
                os.fdatasync(descriptor)
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                break
    try:
        os.close(descriptor)
    except OSError as error:
        assert error.errno == errno.ENOSPC, error


def first(path, seed):
    chance = random.Random(seed)
    descriptor = os.open(path, os.O_RDWR)
    blocks = os.fstat(descriptor).st_size // BLOCK
    data = bytearray(blocks * BLOCK)
    order = list(range(blocks))
    chance.shuffle(order)
    for number, block in enumerate(order):
        content = chance.randbytes(BLOCK)
        assert os.pwrite(descriptor, content, block * BLOCK) == BLOCK
        data[block * BLOCK:(block + 1) * BLOCK] = content
        if number % 500 == 499:
            os.fsync(descriptor)
    os.fsync(descriptor)
    os.close(descriptor)
    with open(model_of(path), 'wb') as out:
        out.write(data)


def direct(path, seed, count):
    chance = random.Random(seed)
    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    size = os.fstat(descriptor).st_size
    data = bytearray(size)
    if os.path.exists(model_of(path)):
        with open(model_of(path), 'rb') as model:
            data = bytearray(model.read())
    memory = mmap.mmap(-1, 1 << 20)
    for number in range(count):
        length = 1 << 20 if number % 10 == 9 else 512 * (1 + chance.randrange(40))
        at = 512 * chance.randrange((size - length) // 512 + 1)
        memory[:length] = chance.randbytes(length)
        written = os.pwritev(descriptor, [memoryview(memory)[:length]], at)
        assert written == length, f'{written} of {length} bytes at {at}'
        data[at:at + length] = memory[:length]
    os.close(descriptor)
    with open(model_of(path), 'wb') as out:
        out.write(data)


def again(path, seed, count):
    chance = random.Random(seed)
    with open(model_of(path), 'rb') as model:
        data = bytearray(model.read())
    descriptor = os.open(path, os.O_RDWR)
    area = mmap.mmap(descriptor, len(data))
    for number in range(count):
        for block in chance.sample(range(len(data) // BLOCK), len(data) // BLOCK // 2):
            at = block * BLOCK + chance.randrange(BLOCK)
            content = chance.randbytes(min(1 + chance.randrange(3000), len(data) - at))
            if number % 2 == 0:
                assert os.pwrite(descriptor, content, at) == len(content)
            else:
                area[at:at + len(content)] = content
            data[at:at + len(content)] = content
        if number % 2 == 1:
            area.flush()
        os.fsync(descriptor)
    area.close()
    os.close(descriptor)
    with open(model_of(path), 'wb') as out:
        out.write(data)


if __name__ == '__main__':
    if sys.argv[1] == 'fill':
        fill(sys.argv[2])
    elif sys.argv[1] == 'direct':
        direct(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == 'first':
        first(sys.argv[2], int(sys.argv[3]))
    else:
        again(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
