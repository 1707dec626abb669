# SPDX-License-Identifier: GPL-2.0-or-later
# Direct writes from buffers that are mappings, of the same file or of others, overlapping or not,
# partly cached, or invalid half-way; on a device that fails parts of them; and at the end of the
# file beside others that change the size.
# direct_scenarios.py DIRECTORY SCENARIO ROUNDS SEED: each round has 30 seconds.
import ctypes
import errno
import fcntl
import mmap
import os
import random
import signal
import sys
import threading
import time

WATCHDOG_SECONDS = 30
PAGE = 4096
SIZE = 4 << 20
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(descriptor, mode, offset, length):
    if libc.fallocate(descriptor, mode, offset, length) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def make(path, content):
    with open(path, 'wb') as file:
        file.write(content)


def drop_cache(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def content_of(path):
    with open(path, 'rb') as file:
        return file.read()


def mapping_of(path, size):
    descriptor = os.open(path, os.O_RDWR)
    mapped = mmap.mmap(descriptor, size)
    os.close(descriptor)
    return mapped


def check(good, what):
    if not good:
        raise AssertionError(what)


def onto_itself_truncated(directory, rng):
    path = os.path.join(directory, 'source')
    make(path, rng.randbytes(SIZE))
    mapped = mapping_of(path, SIZE)
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_TRUNC)
    try:
        written = os.write(descriptor, mapped)
    except OSError as error:
        check(error.errno == errno.EFAULT, 'errno %d' % error.errno)
        written = 0
    check(os.fstat(descriptor).st_size == written, 'size is not what was written')
    os.close(descriptor)
    mapped.close()


def to_another(directory, rng):
    source, target = os.path.join(directory, 'source'), os.path.join(directory, 'target')
    content = rng.randbytes(SIZE)
    make(source, content)
    drop_cache(source)
    mapped = mapping_of(source, SIZE)
    for _ in range(rng.randrange(200)):
        mapped[rng.randrange(SIZE)]
    if rng.randrange(2) == 0 and os.path.exists(target):
        os.unlink(target)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    done = 0
    while done < SIZE:
        done += os.pwrite(descriptor, memoryview(mapped)[done:], done)
    os.close(descriptor)
    check(content_of(target) == content, 'target differs from source')


def into_itself(directory, rng):
    path = os.path.join(directory, 'source')
    content = rng.randbytes(SIZE)
    make(path, content)
    drop_cache(path)
    mapped = mapping_of(path, SIZE)
    if rng.randrange(2) == 0:
        for _ in range(rng.randrange(200)):
            mapped[rng.randrange(SIZE)]
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT)
    quarter = SIZE // 4
    written = os.pwrite(descriptor, memoryview(mapped)[:SIZE // 2], quarter)
    os.close(descriptor)
    check(written == SIZE // 2, 'short: %d' % written)
    now = content_of(path)
    check(now[:quarter] == content[:quarter], 'before the range')
    check(now[quarter:SIZE // 2] == content[:quarter], 'the first half of the range')
    check(now[3 * quarter:] == content[3 * quarter:], 'behind the range')


def invalid_half_way(directory, rng):
    path = os.path.join(directory, 'target')
    content = rng.randbytes(SIZE)
    make(path, content)
    good_pages = rng.randrange(1, SIZE // PAGE)
    good = good_pages * PAGE
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                          ctypes.c_int, ctypes.c_int64]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]
    libc.pwrite.restype = ctypes.c_ssize_t
    base = libc.mmap(None, SIZE, 3, 0x22, -1, 0)
    fresh = rng.randbytes(good)
    ctypes.memmove(base, fresh, good)
    libc.munmap(base + good, SIZE - good)
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT)
    written = libc.pwrite(descriptor, base, SIZE, 0)
    os.close(descriptor)
    libc.munmap(base, good)
    written = max(written, 0)
    check(written <= good, 'more than there was')
    now = content_of(path)
    check(now == fresh[:written] + content[written:], 'count %d of %d' % (written, good))


# Leaves free space in pieces of 96 KiB, and a file in some of them.
def fragment(directory, _):
    pieces = [os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_DIRECT)
              for name in ('goes', 'stays')]
    page = mmap.mmap(-1, 32 << 10)
    try:
        for number in range(1 << 20):
            os.pwrite(pieces[number % 4 == 3], page, number * len(page))
    except OSError as error:
        check(error.errno == errno.ENOSPC, error)
    for piece in pieces:
        os.close(piece)
    os.unlink(os.path.join(directory, 'goes'))
    time.sleep(1)  # the kernel may tell late that it was closed
    make(os.path.join(directory, 'parts'), bytes(SIZE))


# Through the one descriptor only: of a file that was opened without O_DIRECT first the kernel
# reports a short direct write as EIO.
def parts_that_fail(directory, rng):
    descriptor = os.open(os.path.join(directory, 'parts'), os.O_RDWR | os.O_DIRECT)
    found = mmap.mmap(-1, SIZE)
    check(os.preadv(descriptor, [found], 0) == SIZE, 'short read')
    expected = bytearray(found)
    for _ in range(4):
        offset = rng.randrange(0, SIZE, 512)
        length = rng.randrange(512, SIZE - offset + 1, 512)
        buffer = mmap.mmap(-1, length)
        buffer[:] = rng.randbytes(length)
        try:
            written = os.pwrite(descriptor, buffer, offset)
        except OSError as error:
            check(error.errno == errno.EIO, error)
            written = 0
        # So that the journal is written in small pieces, which do not fail.
        os.fsync(descriptor)
        expected[offset:offset + written] = buffer[:written]
        check(os.preadv(descriptor, [found], 0) == SIZE, 'short read')
        check(found[:] == expected, 'offset %d, length %d: said %d' % (offset, length, written))
    os.close(descriptor)


# What was sampled before a write beyond the end must not become the size afterwards.
def beside_size_changers(directory, rng):
    path = os.path.join(directory, 'growing')
    make(path, b'')
    buffer = mmap.mmap(-1, PAGE)
    buffer.write(b'b' * PAGE)
    direct = os.open(path, os.O_RDWR | os.O_DIRECT)
    other = os.open(path, os.O_RDWR | (os.O_DIRECT if rng.randrange(2) else 0))
    change = rng.choice(['write', 'allocate', 'keep size', 'zero', 'grow'])

    def change_size():
        if change == 'write':
            first = mmap.mmap(-1, PAGE)
            os.pwrite(other, first, 0)
        elif change == 'allocate':
            fallocate(other, 0, 0, PAGE)
        elif change == 'keep size':
            fallocate(other, 1, 0, 4 * PAGE)
        elif change == 'zero':
            fallocate(other, 0x10, 0, PAGE)

    failures = []

    def guarded():
        try:
            change_size()
        except OSError as error:
            failures.append('%s: %s' % (change, error))

    thread = threading.Thread(target=guarded)
    thread.start()
    os.pwrite(direct, buffer, PAGE)
    thread.join()
    check(not failures, failures)
    check(os.fstat(direct).st_size == 2 * PAGE, '%s: size %d' % (change, os.fstat(direct).st_size))
    os.close(direct)
    os.close(other)
    check(content_of(path) == bytes(PAGE) + b'b' * PAGE, '%s: content' % change)


SCENARIOS = {
    'a': onto_itself_truncated,
    'b': to_another,
    'c': into_itself,
    'fragment': fragment,
    'd': parts_that_fail,
    'e': invalid_half_way,
    'f': beside_size_changers,
}


def main():
    directory, name, rounds, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    for number in range(rounds):
        signal.alarm(WATCHDOG_SECONDS)
        try:
            SCENARIOS[name](directory, random.Random('%d %s %d' % (seed, name, number)))
        except AssertionError as error:
            sys.exit('scenario %s, round %d, seed %d: %s' % (name, number, seed, error))
    print('scenario %s: %d rounds' % (name, rounds))


main()
