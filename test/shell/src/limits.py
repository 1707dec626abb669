# SPDX-License-Identifier: GPL-2.0-or-later
"""limits.py DIRECTORY: sizes and offsets up to where they end, and figures of the filesystem."""
import os
import resource
import signal
import sys

from calls import attempt

LIMIT = 2**63 - 4096  # the largest size
OFFSET_MAX = 2**63 - 1


def size():
    return os.stat('f').st_size


def show(what, result):
    names = {LIMIT: 'limit', OFFSET_MAX: '2^63-1'}
    print(f'{what}: {result}, size {names.get(size(), size())}')


def main():
    os.chdir(sys.argv[1])
    descriptor = os.open('f', os.O_RDWR | os.O_CREAT)
    for bytes_ in (999999999999999, 2**44, 2**62, LIMIT - 1, LIMIT):
        show(f'truncate to {bytes_:#x}', attempt(os.ftruncate, descriptor, bytes_))
        assert os.stat('f').st_blocks == 0
    for bytes_ in (LIMIT + 1, OFFSET_MAX):
        show(f'truncate to {bytes_:#x}', attempt(os.truncate, 'f', bytes_))
    print('end:', os.lseek(descriptor, 0, os.SEEK_END) == LIMIT)
    print('hole:', os.lseek(descriptor, 2**50, os.SEEK_HOLE) == 2**50)
    os.ftruncate(descriptor, 0)
    for offset in (2**44, 2**62 + 1, LIMIT - 10):
        result = attempt(os.pwrite, descriptor, b'x' * 10, offset)
        os.fsync(descriptor)
        assert os.pread(descriptor, 20, offset - 5) == bytes(5) + b'x' * 10 + bytes(
            5 if size() > offset + 15 else 0)
        show(f'write at {offset:#x}', result)
    print('blocks:', os.stat('f').st_blocks)

    def write_and_sync(offset, length):
        result = attempt(os.pwrite, descriptor, b'y' * length, offset)
        return f'{result} {attempt(os.fsync, descriptor)}'

    # Where the kernel caches it takes what it can, and fsync has to tell.
    for offset, length in ((LIMIT, 1), (LIMIT - 1, 2), (LIMIT + 4000, 10)):
        results = write_and_sync(offset, length)
        refused = 'EFBIG' in results or results.startswith('1 ')
        print(f'write of {length} at {offset:#x}:', 'refused' if refused else results)
    print('write at 2^63-1:', attempt(os.pwrite, descriptor, b'z', OFFSET_MAX))
    os.close(descriptor)
    os.unlink('f')

    # A process's own limit is the kernel's to keep.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
    descriptor = os.open('limited', os.O_RDWR | os.O_CREAT)
    print('within RLIMIT_FSIZE:', attempt(os.pwrite, descriptor, b'x', 99999),
          attempt(os.pwrite, descriptor, b'x', 100000), attempt(os.ftruncate, descriptor, 100001))
    os.close(descriptor)


main()
