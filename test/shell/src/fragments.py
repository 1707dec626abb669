# SPDX-License-Identifier: GPL-2.0-or-later
"""fragments.py FILE COUNT: a file of many extents: every other block, in an order of no kind."""
import os
import random
import sys
import time

BLOCK = 4096


def block(number):
    return number.to_bytes(8, 'little') * (BLOCK // 8)


def timed(what, count, started):
    seconds = time.monotonic() - started
    print(f'{what}: {count} in {seconds:.1f} s, {count / seconds:.0f}/s', file=sys.stderr)
    return time.monotonic()


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    order = list(range(count))
    random.Random(count).shuffle(order)
    started = time.monotonic()
    part = max(count // 5, 1)
    for first in range(0, count, part):
        for number in order[first:first + part]:
            os.pwrite(descriptor, block(number), 2 * number * BLOCK)
        os.fsync(descriptor)
        started = timed('write', min(part, count - first), started)
    print('blocks:', os.fstat(descriptor).st_blocks == count * (BLOCK // 512))
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    wrong = 0
    for number in order[:20000]:
        data = os.pread(descriptor, 2 * BLOCK, 2 * number * BLOCK)
        last = number == count - 1
        wrong += data != block(number) + (b'' if last else bytes(BLOCK))
    started = timed('read', min(count, 20000), started)
    print('wrong:', wrong)
    found = at = 0
    while found < count:
        at = os.lseek(descriptor, at, os.SEEK_DATA)
        if os.lseek(descriptor, at, os.SEEK_HOLE) == os.fstat(descriptor).st_size:
            break  # the kernel may hold pages: it names no holes before the end
        at = os.lseek(descriptor, at, os.SEEK_HOLE)
        found += 1
    started = timed('seek', max(found, 1), started)
    # Half of it goes, from both ends and in the middle.
    os.ftruncate(descriptor, count * BLOCK)
    os.fsync(descriptor)
    started = timed('truncate', count // 2, started)
    left = [number for number in range(count) if 2 * number < count]
    print('half:', os.fstat(descriptor).st_blocks == len(left) * (BLOCK // 512))
    for number in left[::3]:
        os.pwrite(descriptor, block(number + 1), (2 * number + 1) * BLOCK)
    os.fsync(descriptor)
    started = timed('fill gaps', len(left[::3]), started)
    os.close(descriptor)
    os.unlink(path)
    os.sync()
    timed('remove', len(left), started)


main()
