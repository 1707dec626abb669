# SPDX-License-Identifier: GPL-2.0-or-later
# A virtual machine's disk: 512-byte-aligned direct writes at random, a sync every 32; the daemon is
# killed in the middle. direct_disk.py write FILE LOG ROUNDS SEED, then, after a recovery,
# direct_disk.py check FILE LOG: each sector holds what was last synced, or a later write.
import json
import mmap
import os
import random
import struct
import sys

SECTOR = 512
SECTORS = 16384
SYNC_EVERY = 32


def stamp(number, sector):
    return struct.pack('<QQ', number, sector) * (SECTOR // 16)


def write(path, log, rounds, seed):
    rng = random.Random(seed)
    memory = mmap.mmap(-1, 64 * SECTOR)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    os.ftruncate(descriptor, SECTORS * SECTOR)
    synced, written = {}, {}
    number = 0
    try:
        for _ in range(rounds):
            for _ in range(SYNC_EVERY):
                number += 1
                count = rng.choice([1, 1, 2, 8, 8, 16, 64])
                first = rng.randrange(SECTORS - count)
                data = b''.join(stamp(number, first + i) for i in range(count))
                memory[:len(data)] = data
                for i in range(count):
                    written.setdefault(first + i, []).append(number)
                view = memoryview(memory)[:len(data)]
                done = os.pwrite(descriptor, view, first * SECTOR)
                view.release()
                if done != len(data):
                    sys.exit('short write')
            os.fdatasync(descriptor)
            synced = {sector: numbers[-1] for sector, numbers in written.items()}
    except OSError:
        pass  # the daemon is gone
    with open(log, 'w') as file:
        json.dump({'synced': synced, 'written': written}, file)


def check(path, log):
    with open(log) as file:
        known = json.load(file)
    if not known['synced']:
        sys.exit('nothing was synced before the kill')
    descriptor = os.open(path, os.O_RDONLY)
    for sector in range(SECTORS):
        data = os.pread(descriptor, SECTOR, sector * SECTOR)
        number, place = struct.unpack_from('<QQ', data)
        numbers = known['written'].get(str(sector), [])
        least = known['synced'].get(str(sector), 0)
        allowed = {n for n in numbers if n >= least} | ({0} if least == 0 else set())
        if number not in allowed or (number != 0 and data != stamp(number, sector)) or \
                (number == 0 and data != bytes(SECTOR)):
            sys.exit('sector %d holds write %d (of sector %d), synced was %d' %
                     (sector, number, place, least))
    print('every sector holds what was synced, or a later write')


if sys.argv[1] == 'write':
    write(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
else:
    check(sys.argv[2], sys.argv[3])
