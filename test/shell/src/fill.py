# SPDX-License-Identifier: GPL-2.0-or-later
"""fill.py small|large DIRECTORY SEED LIST: writes until ENOSPC.

Prints how it ended; LIST gets a line "name version size" for each file that was written whole and
then synced. verify mode: fill.py verify DIRECTORY LIST checks those that still exist.
"""
import ctypes
import errno
import os
import random
import sys

from content import content


def syncfs(root):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(root, os.O_RDONLY)
    status = libc.syncfs(fd)
    os.close(fd)
    if status != 0:
        raise OSError(ctypes.get_errno(), 'syncfs')


def write_file(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        while data:
            data = data[os.write(fd, data):]
    finally:
        os.close(fd)


def small(root, seed, listing):
    rng = random.Random(seed)
    unsynced = []
    for number in range(10**7):
        name = f'small-{seed}-{number}'
        size = rng.choice([1, 3000, 4096, 9000, 16384, 40000])
        if number % 200 == 0:
            os.makedirs(f'{root}/{seed}-{number // 200}', exist_ok=True)
        path = f'{seed}-{number // 200}/{name}'
        write_file(f'{root}/{path}', content(name, 1, size))
        unsynced.append(f'{path} 1 {size}\n')
        if len(unsynced) == 100:
            syncfs(root)
            listing.writelines(unsynced)
            unsynced.clear()


def large(root, seed, listing):
    """One file, a chunk and an fsync at a time; each chunk counts by itself."""
    size = 1 << 20
    fd = os.open(f'{root}/large-{seed}', os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        for number in range(10**7):
            data = content(f'large-{seed}', number, size)
            while data:
                data = data[os.write(fd, data):]
            if number % 16 == 15:
                os.fsync(fd)
                listing.write(f'large-{seed} {number + 1} {size}\n')
    finally:
        os.close(fd)


def verify(root, listing):
    bad = checked = 0
    with open(listing, encoding='utf-8') as file:
        lines = [line.split() for line in file if line.endswith('\n')]
    for path, version, size in lines:
        name = os.path.basename(path)
        if not os.path.exists(f'{root}/{path}'):
            continue
        checked += 1
        with open(f'{root}/{path}', 'rb') as file:
            if name.startswith('large-'):
                ok = all(file.read(int(size)) in (content(name, n, int(size)), b'')
                         for n in range(int(version)))
            else:
                ok = file.read() == content(name, int(version), int(size))
        if not ok:
            bad += 1
            print(f'{path} is not what was synced')
    print(f'{checked} checked, {bad} bad', file=sys.stderr)
    return 1 if bad else 0


def main(mode, root, *rest):
    if mode == 'verify':
        return verify(root, rest[0])
    with open(rest[1], 'a', buffering=1, encoding='utf-8') as listing:
        try:
            (small if mode == 'small' else large)(root, int(rest[0]), listing)
        except OSError as error:
            print(f'{mode}: {errno.errorcode[error.errno]}')
            return 0 if error.errno == errno.ENOSPC else 1
    return 1


sys.exit(main(*sys.argv[1:]))
